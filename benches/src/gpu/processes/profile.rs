//! Where the time of a step goes, by a profiler that is there.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command, time::Duration};

use super::{Processes, TOOLKIT};
use crate::gpu::{Kernels, Off};

impl Processes {
    /// Programs that tell where time goes, in the order in which they are tried.
    pub(super) fn profilers(&self) -> Vec<Profiler> {
        let find = |name: &str| {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = env::split_paths(&path).chain([PathBuf::from(TOOLKIT).join("bin")]);
            folders.map(|folder| folder.join(name)).find(|program| program.is_file())
        };
        let nsys = find("nsys").map(Profiler::Nsys);
        nsys.into_iter().chain(find("ncu").map(Profiler::Ncu)).chain([Profiler::Cubecl]).collect()
    }

    pub(super) fn profile(
        &self,
        profiler: &Profiler,
        workload: &str,
        off: Off,
        limit: Duration,
    ) -> Result<Kernels, String> {
        let part = ["profile", &self.weights(), workload].map(str::to_owned);
        let report = self.work.join("profile");
        let _ = fs::remove_file(&report);
        let report_name = report.display().to_string();
        let mut command = match profiler {
            Profiler::Cubecl => Command::new(&self.program),
            Profiler::Nsys(program) => {
                let mut command = Command::new(program);
                command.args(["profile", "--trace", "cuda", "--sample", "none", "--cpuctxsw", "none"]);
                command.args(["--capture-range", "cudaProfilerApi", "--capture-range-end", "stop"]);
                command.args(["--force-overwrite", "true"]);
                command.args(["--output", &report_name]).arg(&self.program);
                command
            }
            Profiler::Ncu(program) => {
                let mut command = Command::new(program);
                command.args([
                    "--profile-from-start",
                    "off",
                    "--clock-control",
                    "none",
                    "--cache-control",
                    "none",
                ]);
                command.args(["--metrics", "gpu__time_duration.sum", "--csv", "--log-file", &report_name]);
                command.arg(&self.program);
                command
            }
        };
        command.args(part);
        self.set_up(&mut command, off);
        if *profiler != Profiler::Cubecl {
            command.arg("--mark");
        } else {
            command.env("CUBECL_DEBUG_LOG", &report).env("CUBECL_DEBUG_OPTION", "profile");
        }
        let done = self.run("profile", command, limit);
        if let Some(trouble) = done.trouble {
            let last = done.errors.last().map_or("", String::as_str);
            return Err(format!("{profiler}: {trouble}: {last}"));
        }
        let text = match profiler {
            Profiler::Nsys(program) => {
                let mut stats = Command::new(program);
                stats.args([
                    "stats",
                    "--report",
                    "cuda_gpu_kern_sum",
                    "--format",
                    "csv",
                    "--force-export",
                    "true",
                ]);
                stats.arg(format!("{report_name}.nsys-rep"));
                self.run("nsys stats", stats, limit).lines.join("\n")
            }
            _ => fs::read_to_string(&report).map_err(|error| format!("{profiler}: no report: {error}"))?,
        };
        let rows = match profiler {
            Profiler::Nsys(_) => csv_kernels(&text, "Name", "Total Time (ns)", Some("Instances"), None),
            Profiler::Ncu(_) => csv_kernels(&text, "Kernel Name", "Metric Value", None, Some("Metric Unit")),
            Profiler::Cubecl => cubecl_kernels(&text),
        };
        match rows.is_empty() {
            true => Err(format!("{profiler}: a report without kernels")),
            false => Ok(Kernels { by: profiler.to_string(), rows }),
        }
    }
}

/// What can tell where time goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Profiler {
    Nsys(PathBuf),
    Ncu(PathBuf),
    Cubecl,
}

impl std::fmt::Display for Profiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nsys(_) => "nsys",
            Self::Ncu(_) => "ncu",
            Self::Cubecl => "CubeCL (without cuBLASLt's products, and with a wait after each kernel)",
        })
    }
}

/// Kernels of a table in CSV, which may have other lines before it.
fn csv_kernels(
    text: &str,
    name: &str,
    time: &str,
    count: Option<&str>,
    unit: Option<&str>,
) -> Vec<(String, usize, f64)> {
    let start = text.lines().take_while(|line| !(line.contains(name) && line.contains(time))).count();
    let table = text.lines().skip(start).collect::<Vec<_>>().join("\n");
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(table.as_bytes());
    let Ok(header) = reader.headers().cloned() else { return Vec::new() };
    let column = |name: &str| header.iter().position(|column| column == name);
    let mut sums: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for row in reader.records().map_while(Result::ok) {
        let cell = |name: &str| column(name).and_then(|column| row.get(column));
        let Some((name, seconds)) =
            cell(name).zip(cell(time).and_then(|cell| cell.replace(',', "").parse::<f64>().ok()))
        else {
            continue;
        };
        let scale = match unit.and_then(&cell) {
            Some("s" | "second") => 1.0,
            Some("ms" | "msecond") => 1e-3,
            Some("us" | "usecond") => 1e-6,
            _ => 1e-9,
        };
        let runs = count.and_then(&cell).and_then(|cell| cell.parse().ok()).unwrap_or(1);
        let sum = sums.entry(name.to_owned()).or_default();
        *sum = (sum.0 + runs, sum.1 + seconds * scale);
    }
    by_time(sums)
}

/// Kernels of the last summary in CubeCL's log.
fn cubecl_kernels(text: &str) -> Vec<(String, usize, f64)> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        // A kernel's name has bars in it, too.
        let mut cells = line.trim().trim_matches('|').rsplitn(4, '|').map(str::trim);
        let (Some(share), Some(count), Some(time), Some(name)) =
            (cells.next(), cells.next(), cells.next(), cells.next())
        else {
            continue;
        };
        if name == "Name" {
            sums.clear();
        } else if let (Some(seconds), Ok(count)) = (duration(time), count.parse())
            && name != "Total"
            && share.ends_with('%')
        {
            sums.insert(name.to_owned(), (count, seconds));
        }
    }
    by_time(sums)
}

/// A duration as Rust prints it: `1.5ms`.
fn duration(text: &str) -> Option<f64> {
    [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .iter()
        .find_map(|(unit, scale)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * scale))
}

fn by_time(sums: BTreeMap<String, (usize, f64)>) -> Vec<(String, usize, f64)> {
    let mut rows: Vec<_> = sums.into_iter().map(|(name, (count, seconds))| (name, count, seconds)).collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_added_up_whoever_measured_them() {
        let ncu = "==PROF== Connected\n\"ID\",\"Kernel Name\",\"Metric Name\",\"Metric Unit\",\"Metric Value\"\n\
                   \"0\",\"flash(a, b)\",\"gpu__time_duration.sum\",\"us\",\"1,000.5\"\n\
                   \"1\",\"norm\",\"gpu__time_duration.sum\",\"ns\",\"250\"\n\
                   \"2\",\"norm\",\"gpu__time_duration.sum\",\"us\",\"2\"\n";
        let rows = csv_kernels(ncu, "Kernel Name", "Metric Value", None, Some("Metric Unit"));
        assert_eq!(rows[0].0, "flash(a, b)");
        assert!((rows[0].2 - 1.0005e-3).abs() < 1e-9, "{rows:?}");
        assert_eq!((rows[1].1, (rows[1].2 * 1e9).round()), (2, 2250.0));
        let nsys = "Processing...\n\nTime (%),Total Time (ns),Instances,Name\n60.0,3000000,48,gemm\n40.0,2000000,8,\"f<a,b>\"\n";
        let rows = csv_kernels(nsys, "Name", "Total Time (ns)", Some("Instances"), None);
        assert_eq!(rows, [("gemm".to_owned(), 48, 3e-3), ("f<a,b>".to_owned(), 8, 2e-3)]);
        let cubecl = "| Name | Duration | Num Computed | Ratio |\n| old | 1s | 1 | 100 % |\n\
                      | 12.5µs     | norm\n\
                      | Name | Duration | Num Computed | Ratio |\n| norm | CudaRuntime  | 12.5µs | 2 | 20 % |\n| flash | 50µs | 1 | 80 % |\n\
                      | Total | 62.5µs | 3 | 100 % |\n";
        let rows = cubecl_kernels(cubecl);
        assert_eq!(
            rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
            ["flash", "norm | CudaRuntime"]
        );
        assert!((rows[1].2 - 12.5e-6).abs() < 1e-12 && rows[1].1 == 2);
    }
}
