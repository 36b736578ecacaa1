// Predictions from a bundle in Node.js, with onnxruntime-node alone.
//
//   npm ci --ignore-scripts
//   node predict.mjs BUNDLE ROWS.json      an array of objects (or of arrays, in training's order)
//   node predict.mjs BUNDLE ROWS.csv       a header, then a line per row
//
// Texts are strings, or rows with one column; their tokens come from tokenizer.mjs.
//
// Prints one JSON object per row. To use it from your own code:
//
//   import { load, predict } from "./predict.mjs";
//   const model = await load("bundle");
//   const predictions = await predict(model, [{ age: 30, city: "Bern", plan: null }]);

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import ort from "onnxruntime-node";
import { Tokenizer, countTokens, orderTokens } from "./tokenizer.mjs";

/** Read the manifest of a bundle, check the hash of its model, and open it. */
export async function load(bundle) {
  const manifest = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8"));
  if (manifest.input === "image" || manifest.columns.some(({ kind }) => kind === "image")) {
    throw new Error("the bundle must read rows without images: run its model.onnx yourself");
  }
  const read = (name) => {
    const bytes = readFileSync(join(bundle, name));
    if (createHash("sha256").update(bytes).digest("hex") !== manifest.files[name].sha256) {
      throw new Error(`${name} is not the file that manifest.json names: copy the bundle again`);
    }
    return bytes;
  };
  const bytes = read("model.onnx");
  const names = manifest.columns.flatMap(({ text }) => (text ? [text.tokenizer] : []));
  const tokenizers = Object.fromEntries(
    [...new Set(names)].map((name) => [name, new Tokenizer(read(name).toString("utf8"))]),
  );
  // One thread: small models are done before others wake up.
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
  return { manifest, tokenizers, session: await ort.InferenceSession.create(bytes, options) };
}

/** Predict for rows: objects by column name, arrays in the order of training, or single texts. */
export async function predict({ manifest, tokenizers, session }, rows) {
  if (manifest.input === "text") rows = rows.map(toTextRow);
  const outputs = await session.run(toFeeds(manifest, tokenizers, rows));
  const { expert, gate_probability: gate } = outputs;
  return rows.map((_, i) => ({
    ...toPrediction(manifest, outputs, i),
    expert: Number(expert.data[i]),
    gate_probability: gate.data[i],
  }));
}

function toPrediction({ classes, n_outputs: width }, { label, probabilities, variable }, i) {
  if (classes === null) {
    const values = Array.from(variable.data.slice(i * width, (i + 1) * width));
    return { prediction: width === 1 ? values[0] : values };
  }
  // Labels are integers or strings; for other types, positions in the list of the manifest.
  const raw = typeof label.data[i] === "bigint" ? Number(label.data[i]) : label.data[i];
  return {
    prediction: classes.label === "index" ? classes.values[raw] : raw,
    probabilities: Array.from(probabilities.data.slice(i * width, (i + 1) * width)),
  };
}

/** A row of a model of texts as an array; a column may have any name. */
function toTextRow(row) {
  if (row === null || typeof row === "string") return [row];
  const values = Object.values(row);
  if (values.length !== 1) throw new Error(`A row must have one text, got ${values.length} columns`);
  return values;
}

/** One tensor (n, 1) per column, two (n, length) per column of texts, or a single tensor (n, columns) for a model of arrays. */
function toFeeds({ columns, input }, tokenizers, rows) {
  const values = columns.map((column, j) =>
    rows.map((row) =>
      checkRefusals(column, toElement(column, Array.isArray(row) ? row[j] : row[column.name])),
    ),
  );
  if (input === "array") {
    const [{ input: name, dtype }] = columns;
    const cells = rows.flatMap((_, i) => values.map((column) => column[i]));
    return { [name]: new ort.Tensor(dtype, toData[dtype](cells), [rows.length, columns.length]) };
  }
  const tensors = columns.flatMap((column, j) => {
    const { input: name, dtype, text } = column;
    if (text) return toTokens(column, tokenizers[text.tokenizer], values[j], input === "text");
    return [[name, new ort.Tensor(dtype, toData[dtype](values[j]), [rows.length, 1])]];
  });
  return Object.fromEntries(tensors);
}

/** The two tensors of a column of texts. */
function toTokens({ name, input, text }, tokenizer, texts, alone) {
  texts.forEach((value, i) => {
    if (Buffer.byteLength(value) > text.max_bytes) {
      throw new Error(`A text must have at most ${text.max_bytes} bytes, got more in row ${i}`);
    }
    if (value.includes("\0") || !value.isWellFormed()) {
      throw new Error(`Column "${name}" must hold texts without null characters and half ones, row ${i}`);
    }
  });
  const lists = texts.map((value) => tokenizer.encode(value));
  const read = text.encoder === "transformer" ? orderTokens : countTokens;
  const { tokens, counts, length } = read(lists, text.max_tokens);
  const end = alone ? "" : `_${input}`;
  return [
    [`tokens${end}`, new ort.Tensor("int64", tokens, [texts.length, length])],
    [`counts${end}`, new ort.Tensor("float32", counts, [texts.length, length])],
  ];
}

const toData = {
  float32: (values) => Float32Array.from(values),
  float64: (values) => Float64Array.from(values),
  int64: (values) => BigInt64Array.from(values, BigInt),
  string: (values) => values,
};

/** What the graph reads: "" for a missing string, NaN for a missing number. */
function toElement({ name, dtype }, value) {
  if (value === undefined) throw new Error(`A row must have the column "${name}" (null if missing)`);
  const missing = value === null || value === "" || Number.isNaN(value);
  if (dtype === "string") {
    if (!missing && typeof value !== "string") {
      throw new Error(`Column "${name}" must hold strings, got ${value}`);
    }
    return missing ? "" : value;
  }
  if (missing && dtype !== "int64") return NaN;
  // Number() would also convert blank text and arrays.
  const number = missing || !/\S/.test(value) || typeof value === "object" ? NaN : Number(value);
  const stored = dtype === "float32" ? Math.fround(number) : number;
  if (!Number.isFinite(stored)) {
    throw new Error(`Column "${name}" must hold finite numbers, got ${JSON.stringify(value)}`);
  }
  if (dtype === "int64" && !Number.isInteger(stored)) {
    throw new Error(`Column "${name}" must hold integers, got ${JSON.stringify(value)}`);
  }
  return stored;
}

/** Refuse what the model or its graph failed on at the export. */
function checkRefusals({ name, categories, refuses = [], lowest, highest }, value) {
  const missing = value === "" || Number.isNaN(value);
  const unseen = !missing && refuses.includes("unseen") && !categories.includes(value);
  if ((missing && refuses.includes("missing")) || unseen || value < lowest || value > highest) {
    throw new Error(`Column "${name}" must not hold ${missing ? "missing values" : value}`);
  }
  return value;
}

/** Rows of a CSV text as objects; a field in double quotes may hold commas and line ends. */
export function parseCsv(text) {
  const records = [[]];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\r|\n|$)/y;
  const body = text.replace(/^\uFEFF/, "").replace(/[\r\n]+$/, "");
  while (field.lastIndex <= body.length) {
    const match = field.exec(body);
    if (match === null) throw new Error(`Not CSV: line ${records.length}`);
    records.at(-1).push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] === "") break;
    if (match[3] !== ",") records.push([]);
  }
  const [names, ...rows] = records;
  return rows.map((row, i) => {
    if (row.length !== names.length) throw new Error(`Row ${i + 1} must have ${names.length} fields`);
    return Object.fromEntries(names.map((name, j) => [name, row[j]]));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [bundle, file] = process.argv.slice(2);
  const text = readFileSync(file, "utf8");
  const model = await load(bundle);
  const rows = file.endsWith(".csv") ? parseCsv(text) : JSON.parse(text);
  for (const row of await predict(model, rows)) console.log(JSON.stringify(row));
}
