//! What `/proc` says about a process.

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Ticks in a second of the times in `/proc/PID/stat`: part of Linux' interface to programs, the
/// same on every machine that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Resources {
    /// User and system time so far, in seconds.
    pub(crate) cpu_s: f64,
    /// Resident memory with mapped files, in MiB.
    pub(crate) rss_mb: f64,
    /// Resident memory without them, in MiB.
    pub(crate) rss_anon_mb: f64,
    /// The most resident memory that it ever had, in MiB.
    pub(crate) peak_mb: f64,
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, PartialEq)]
struct Stat {
    /// Name of the program, cut to 15 bytes by the kernel.
    comm: String,
    parent: u32,
    cpu_s: f64,
}

/// Resources of a process now.
pub(crate) fn resources(pid: u32) -> Result<Resources> {
    let status_path = format!("/proc/{pid}/status");
    let status = fs_err::read_to_string(&status_path)?;
    let field = |name| mebibytes(&status, name).with_context(|| format!("{name} in {status_path}"));
    Ok(Resources {
        cpu_s: stat(pid)?.cpu_s,
        rss_mb: field("VmRSS")?,
        rss_anon_mb: field("RssAnon")?,
        peak_mb: field("VmHWM")?,
    })
}

/// The process `program` itself, or its only child of that name: `moerag up` starts the services.
pub(crate) fn program(pid: u32, program: &str) -> Result<u32> {
    let named = |comm: &str| !comm.is_empty() && program.starts_with(comm);
    if named(&stat(pid)?.comm) {
        return Ok(pid);
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes end while they are listed.
        if let Ok(stat) = stat(child)
            && stat.parent == pid
            && named(&stat.comm)
        {
            found.push(child);
        }
    }
    match found[..] {
        [child] => Ok(child),
        _ => bail!(
            "process {pid} is not {program} and has {} children of that name",
            found.len()
        ),
    }
}

fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs_err::read_to_string(&path)?;
    parse_stat(&text).with_context(|| format!("{path} has an unknown form"))
}

/// The program's name stands in parentheses and may hold any character, also `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let (start, end) = (text.find('(')?, text.rfind(')')?);
    let comm = text.get(start + 1..end)?.to_owned();
    // From field 3 of proc_pid_stat(5) on: state, parent, … utime (14), stime (15).
    let fields: Vec<&str> = text.get(end + 1..)?.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Stat {
        comm,
        parent: fields.get(1)?.parse().ok()?,
        cpu_s: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
    })
}

/// A field of `/proc/PID/status` that is given in kB.
fn mebibytes(status: &str, name: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 9 9 20 0 1 0 99 1 2";
        let stat = parse_stat(text).unwrap();
        assert_eq!(stat.comm, "a) b (c");
        assert_eq!(stat.parent, 7);
        assert!((stat.cpu_s - 2.0).abs() < 1e-9, "{stat:?}");
        assert_eq!(parse_stat("42 (a S 7"), None);
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let status = "VmRSSX:\t 9 kB\nVmRSS:\t   2048 kB\nRssAnon: 512 kB\nThreads: 3\n";
        assert_eq!(mebibytes(status, "VmRSS"), Some(2.0));
        assert_eq!(mebibytes(status, "RssAnon"), Some(0.5));
        assert_eq!(mebibytes(status, "VmHWM"), None);
        assert_eq!(mebibytes(status, "Threads"), None);
    }

    #[test]
    fn this_process_is_found_and_has_memory() {
        let me = std::process::id();
        let found = resources(me).unwrap();
        assert!(
            found.rss_mb > 0.5 && found.peak_mb >= found.rss_mb * 0.99,
            "{found:?}"
        );
        assert_eq!(program(me, &stat(me).unwrap().comm).unwrap(), me);
        assert!(program(me, "no-such-program").is_err());
    }
}
