// node classify.js model.onnx frame.bgr [LABEL ...]
// Prints {"probabilities": [...], "index": n, "label": "..."} of one frame of raw bytes: rows of B, G, R.
import { readFileSync } from "node:fs";

// Set before the engine is loaded: it would report its use to its maker.
process.env.ORT_DISABLE_TELEMETRY ??= "1";
const { InferenceSession, Tensor } = await import("onnxruntime-node");

const USAGE = 64;

function refuse(line) {
  console.error(`error: ${line}`);
  process.exit(USAGE);
}

const [modelFile, frameFile, ...labels] = process.argv.slice(2);
if (!frameFile) refuse("give model.onnx and frame.bgr: node classify.js MODEL FRAME [LABEL ...]");

const session = await InferenceSession.create(modelFile, { executionProviders: ["cpu"], intraOpNumThreads: 1 });
const input = session.inputMetadata.find(({ name }) => name === "frame");
if (!input || input.type !== "uint8") refuse(`${modelFile}: no graph of a GenSoup bundle, it has no uint8 input 'frame'`);

const bytes = readFileSync(frameFile);
const wanted = input.shape.reduce((product, size) => product * size, 1);
if (bytes.length !== wanted) {
  const [, height, width] = input.shape;
  refuse(`${frameFile}: ${bytes.length} bytes, not the ${wanted} of ${width} x ${height} pixels BGR: resize the frame first`);
}

// The bytes go in as they are: normalisation, layout and channel order lie in the graph.
const frame = new Tensor("uint8", new Uint8Array(bytes), input.shape);
const { probabilities } = await session.run({ frame }, ["probabilities"]);
const values = Array.from(probabilities.data);
const index = values.indexOf(Math.max(...values));
console.log(JSON.stringify({ probabilities: values, index, label: labels[index] ?? String(index) }));
