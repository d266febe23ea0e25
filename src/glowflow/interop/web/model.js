// The model as the page sees it: promises of pictures and codes, one question at a time.

/** A worker with the model in it. Whoever asks while it is busy waits; frames go before the rest. */
export class Model {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #asked = new Map();
  #next = 0;

  /** `progress` is told of every part of a file that has come, in bytes. */
  constructor(progress) {
    this.#worker.onmessage = ({ data }) => {
      if (data.loaded) return progress(data.loaded);
      const { resolve, reject } = this.#asked.get(data.id);
      this.#asked.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data.answer);
    };
    this.#worker.onerror = (event) => {
      const error = new Error(event.message || "worker.js could not be started");
      for (const { reject } of this.#asked.values()) reject(error);
      this.#asked.clear();
    };
  }

  /** Ask the worker: `load`, `decode` or `encode`. */
  ask(what, given) {
    const id = this.#next++;
    const answer = new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.#worker.postMessage({ ...given, do: what, id });
    return answer;
  }
}

/**
 * Work of which only the newest matters. `ask` may be called at any rate: one piece runs, the newest
 * that was asked for meanwhile runs next, whatever was between is dropped, and the last never is.
 */
export class Newest {
  #work;
  #waiting = false;
  #running = null;

  constructor(work) {
    this.#work = work;
  }

  ask() {
    this.#waiting = true;
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run() {
    try {
      while (this.#waiting) {
        this.#waiting = false;
        await this.#work();
      }
    } finally {
      this.#running = null;
    }
  }
}
