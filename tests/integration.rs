//! The program as a user runs it: real clips in, shards out, and every way in which that can go wrong.

mod integration {
    mod cli;
    mod faults;
    mod program;
    mod resume;
    mod run;
}
