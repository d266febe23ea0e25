// What follows a slider: one request at a time, always with the newest value, the last never lost.

const RETRIES = 5;
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export function newestWins(send, show, failed) {
  let wanted = null;
  let running = false;

  async function run() {
    running = true;
    while (wanted !== null) {
      const { value, since } = wanted;
      wanted = null;
      for (let retry = 0; ; retry += 1) {
        try {
          const result = await send(value);
          show(result, value);
          document.dispatchEvent(new CustomEvent("shown", { detail: { value, since } }));
          break;
        } catch (error) {
          if (wanted !== null) break; // a newer value takes its place
          if (error.status !== 503 || retry === RETRIES) { failed(error); break; }
          await wait(200 * (retry + 1));
        }
      }
    }
    running = false;
  }

  return (value, since = performance.now()) => {
    wanted = { value, since };
    if (!running) run();
  };
}
