//! The clock of the benches.

use std::time::Instant;

/// Seconds from some start: of this thread's processor time where it is alone (`RAYON_NUM_THREADS=1`), so that other programs hardly matter;
/// else of wall time.
pub fn seconds(start: Instant) -> f64 {
    #[cfg(target_os = "linux")]
    if rayon::current_num_threads() == 1 {
        unsafe extern "C" {
            safe fn clock_gettime(clock: i32, time: &mut [i64; 2]) -> i32;
        }
        const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
        let mut time = [0; 2];
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time);
        return time[0] as f64 + time[1] as f64 * 1e-9;
    }
    start.elapsed().as_secs_f64()
}
