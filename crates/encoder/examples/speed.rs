//! How fast the encoder is here: `cargo run -p moerag-encoder --example speed [DEVICE [PRECISION]]`.
//!
//! Prints the wall and CPU time of one 12-token query and the passages per second of 32 x 128
//! tokens, the two figures of FEASIBILITY.md, on one thread and on all cores.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use moerag_encoder::{EncodeOptions, Encoder, LoadOptions, default_dir};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let device = arguments.next().as_deref().unwrap_or("flex").parse()?;
    let precision = arguments.next().as_deref().unwrap_or("auto").parse()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = std::io::stdout().lock();
    for threads in [1, cores] {
        let start = Instant::now();
        let options = LoadOptions {
            device,
            precision,
            threads: Some(threads),
            ..LoadOptions::default()
        };
        let encoder = Encoder::load_with(&default_dir()?, &options)?;
        writeln!(
            out,
            "{device} {precision}, {threads} threads: loaded in {:.0?}",
            start.elapsed()
        )?;

        let queries: Vec<String> = (0..200).map(query).collect();
        let mut times = Vec::new();
        let cpu = cpu_time();
        for query in &queries {
            let start = Instant::now();
            encoder.encode(&[query], &EncodeOptions::query())?;
            times.push(start.elapsed());
        }
        let cpu = (cpu_time() - cpu) / 200;
        times.sort_unstable();
        writeln!(
            out,
            "  query of 12 tokens: min {:.2?}, median {:.2?}, p99 {:.2?}; CPU {cpu:.2?}",
            times[0], times[100], times[198]
        )?;

        let passages: Vec<String> = (0..64 * threads).map(passage).collect();
        for _ in 0..3 {
            let (start, cpu) = (Instant::now(), cpu_time());
            let encodings = encoder.encode(&passages, &EncodeOptions::passage())?;
            let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
            let tokens: usize = encodings.iter().map(|e| e.token_ids.len() + 2).sum();
            let n = encodings.len();
            writeln!(
                out,
                "  {n} passages of {} tokens: {:.1} passages/s; CPU {} ms per 32",
                tokens / n,
                n as f64 / wall.as_secs_f64(),
                (cpu * 32 / n as u32).as_millis()
            )?;
        }
    }
    Ok(())
}

/// Ten one-piece words, so twelve tokens; each query different.
fn query(i: usize) -> String {
    format!("how does water move from the upper lock in {}", 10 + i % 80)
}

/// 126 one-piece words, so 128 tokens.
fn passage(i: usize) -> String {
    const WORDS: [&str; 12] = [
        "the", "lock", "water", "rises", "when", "gates", "open", "and", "boats", "pass", "slowly",
        "through",
    ];
    (0..126)
        .map(|j| WORDS[(i + j * (1 + i % 5)) % WORDS.len()])
        .collect::<Vec<_>>()
        .join(" ")
}

/// CPU time of this process, from /proc; zero where there is none.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
