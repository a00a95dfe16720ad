/**
 * Loaded into a service by `--import`: between two SIGUSR2 it measures how long the event loop is held, and then prints
 * the longest hold. It counts the CPU time of the thread, so that other work on the machine does not count. Meanwhile
 * the loop never rests, because only a loop that has something to do comes by here in each turn.
 */
let longest = 0;
let measures = false;

process.on("SIGUSR2", () => {
  if (measures) {
    measures = false;
    console.log(`longest hold: ${longest}`);
  } else {
    measures = true;
    longest = 0;
    console.log("measures holds");
    watchTurn(threadMs());
  }
});

function watchTurn(since: number): void {
  setImmediate(() => {
    const now = threadMs();
    longest = Math.max(longest, now - since);
    if (measures) watchTurn(now);
  });
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
