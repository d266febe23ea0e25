// The model itself, beside the page's own thread, so that sliders never wait for it.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { isPicture, toBytes, toFloat } from "./codes.js";

let meta, weights;
const sessions = {};

/** Fetch a file in one piece, and report its bytes as they come. */
async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is not there (${answer.status})`);
  const parts = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    postMessage({ loaded: value.length });
  }
  return new Blob(parts);
}

async function bytesOf(name) {
  return new Uint8Array(await (await fetched(name)).arrayBuffer());
}

/** The runtime's program is kept packed, so that hosts need to know nothing of its type. */
async function unpacked(name) {
  const stream = (await fetched(name)).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** `encode` or `decode`, made when it is first needed: they share the file of weights. */
function session(name) {
  sessions[name] ??= bytesOf(`${name}.onnx`).then((graph) =>
    ort.InferenceSession.create(graph, {
      executionProviders: ["wasm"],
      externalData: [{ path: "weights.bin", data: weights }],
    }),
  );
  return sessions[name];
}

function withLabels(inputs, label) {
  if (meta.classes) inputs.labels = new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1]);
  return inputs;
}

const answers = {
  async load(given) {
    meta = given.meta;
    ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
    let program;
    [program, weights] = await Promise.all([unpacked("runtime/ort.wasm.gz"), bytesOf("weights.bin")]);
    ort.env.wasm.wasmBinary = program;
    await session("decode");
    return {};
  },

  async decode({ code, label }) {
    const inputs = {};
    let at = 0;
    for (const [level, shape] of meta.latents.entries()) {
      const size = shape.reduce((a, b) => a * b);
      const some = code.subarray(at, (at += size));
      inputs[`latent${level + 1}`] = new ort.Tensor("float32", some, [1, ...shape]);
    }
    const decode = await session("decode");
    const start = performance.now();
    const x = (await decode.run(withLabels(inputs, label))).x.data;
    const milliseconds = performance.now() - start;
    return { bytes: toBytes(x, meta.bits), usable: isPicture(x), milliseconds };
  },

  async encode({ bytes, label }) {
    const x = new ort.Tensor("float32", toFloat(bytes, meta.bits), [1, ...meta.shape]);
    const latents = await (await session("encode")).run(withLabels({ x }, label));
    const code = new Float32Array(bytes.length);
    let at = 0;
    for (const level of meta.latents.keys()) {
      const { data } = latents[`latent${level + 1}`];
      code.set(data, at);
      at += data.length;
    }
    return { code };
  },
};

let last = Promise.resolve();

/** Questions are answered one after another, in their order. */
onmessage = ({ data }) => {
  last = last.then(async () => {
    try {
      postMessage({ id: data.id, answer: await answers[data.do](data) });
    } catch (error) {
      postMessage({ id: data.id, error: error.message });
    }
  });
};
