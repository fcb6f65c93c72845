//! The program as a user runs it: real clips in, shards out, and every way in which that can go wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod integration {
    mod cli;
    mod cluster;
    mod crash;
    mod disk;
    mod evaluate;
    mod faults;
    mod fuzz;
    mod isolation;
    mod program;
    mod render;
    mod resume;
    mod retry;
    mod run;
    mod s3;
    mod s3_faults;
    mod s3_server;
    mod train;
    mod verify;
}
