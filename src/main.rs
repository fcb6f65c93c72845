//! The program: parses the call, runs it, and says how it ended with its exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use simdrop::cli::Cli;
use simdrop::error::Error;
use simdrop::progress::display::LogWriter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(cli.log()).unwrap_or_default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LogWriter::default)
        .with_target(false)
        .without_time()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut writer = LogWriter::default();
            let text = match &error {
                Error::Diagnostics(text) => text.clone(),
                other => format!("error: {other}"),
            };
            // A closed standard error leaves the exit code to say it.
            let _ = writeln!(writer, "{}", text.trim_end());
            ExitCode::from(error.exit_code())
        }
    }
}
