// The tokens of texts, by the tokenizer.json of a bundle: a byte-level BPE, as GPT-2 has it.
//
//   import { Tokenizer, countTokens } from "./tokenizer.mjs";
//   const tokenizer = new Tokenizer(readFileSync("bundle/tokenizer.json", "utf8"));
//   const { tokens, counts, length } = countTokens([tokenizer.encode("good value")], 512);
//
// Letters and numbers are those of Node's Unicode: characters of the newest release may get other
// tokens than in Python.

const SPACE = "\\p{White_Space}";
const PATTERN =
  "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?[^" +
  `${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`;
const MAX_CACHED = 65_536;

export class Tokenizer {
  constructor(json) {
    const { model, normalizer, pre_tokenizer: steps, added_tokens: added } = JSON.parse(json);
    const [level, ...before] = flatten(steps, "pretokenizers").reverse();
    if (level?.type !== "ByteLevel" || (model.type ?? "BPE") !== "BPE") {
      throw new Error("The tokenizer must be a byte-level BPE");
    }
    this.normalizers = flatten(normalizer, "normalizers").map(({ type }) => type);
    this.prefix = level.add_prefix_space ?? true;
    this.prefixWords = this.prefix && before.length > 0;
    this.splits = before.length > 0 || (level.use_regex ?? true);
    this.vocabulary = new Map(Object.entries(model.vocab));
    this.ignoresMerges = model.ignore_merges ?? false;
    this.merges = new Map();
    model.merges.forEach((merge, rank) => {
      const [left, right] = typeof merge === "string" ? merge.split(" ") : merge;
      const key = pairKey(this.vocabulary.get(left), this.vocabulary.get(right));
      this.merges.set(key, [rank, this.vocabulary.get(left + right)]);
    });
    this.cache = new Map();
    this.added = [false, true].map((normalized) =>
      new AddedTokens(
        (added ?? [])
          .filter((token) => (token.normalized ?? !token.special) === normalized)
          .map(({ content, id }) => [normalized ? this.normalize(content) : content, id]),
      ),
    );
  }

  /** The tokens of one text. */
  encode(text) {
    const [asTheyAre, normalized] = this.added;
    return asTheyAre.split(text).flatMap((part) =>
      typeof part === "number"
        ? [part]
        : normalized
            .split(this.normalize(part))
            .flatMap((piece) => (typeof piece === "number" ? [piece] : this.encodePlain(piece))),
    );
  }

  normalize(text) {
    for (const name of this.normalizers) {
      if (name === "NFC") text = text.normalize("NFC");
      // Character by character: JavaScript alone knows the form of a sigma at a word's end.
      else if (name === "Lowercase") text = text.replaceAll("\u03a3", "\u03c3").toLowerCase();
      else throw new Error(`The tokenizer must have no normalizer ${name}`);
    }
    return text;
  }

  encodePlain(text) {
    if (text === "") return [];
    if (this.prefix && !this.prefixWords && text[0] !== " ") text = ` ${text}`;
    const words = this.splits ? text.match(new RegExp(PATTERN, "gu")) : [text];
    const tokens = [];
    for (const word of words) {
      const found = this.encodeWord(this.prefixWords && word[0] !== " " ? ` ${word}` : word);
      for (const token of found) tokens.push(token);
    }
    return tokens;
  }

  encodeWord(word) {
    const cached = this.cache.get(word);
    if (cached !== undefined) return cached;
    const characters = Array.from(Buffer.from(word, "utf8"), (byte) => BYTE_CHARACTERS[byte]);
    const whole = this.ignoresMerges ? this.vocabulary.get(characters.join("")) : undefined;
    const bytes = characters.map((character) => this.vocabulary.get(character));
    const tokens =
      whole === undefined ? merge(bytes.filter((token) => token !== undefined), this.merges) : [whole];
    if (this.cache.size >= MAX_CACHED) this.cache.clear();
    if (word.length <= 64) this.cache.set(word, tokens);
    return tokens;
  }
}

/** The different tokens of each text in the order of first occurrence, and how often each occurs. */
export function countTokens(lists, maxTokens) {
  const found = lists.map((list) => {
    const counts = new Map();
    for (const token of list) counts.set(token, (counts.get(token) ?? 0) + 1);
    return [...counts].slice(0, maxTokens);
  });
  return toTensors(found);
}

/** All tokens of each text in their order, each with the count 1. */
export function orderTokens(lists, maxTokens) {
  return toTensors(lists.map((list) => list.slice(0, maxTokens).map((token) => [token, 1])));
}

/** Pairs of tokens and counts as rows of equal length. */
function toTensors(found) {
  const length = found.reduce((longest, { length: own }) => Math.max(longest, own), 1);
  const tokens = new BigInt64Array(found.length * length);
  const counts = new Float32Array(found.length * length);
  found.forEach((pairs, i) =>
    pairs.forEach(([token, count], j) => {
      tokens[i * length + j] = BigInt(token);
      counts[i * length + j] = count;
    }),
  );
  return { tokens, counts, length };
}

/** Finds the texts that are tokens as a whole: the leftmost, and there the longest. */
class AddedTokens {
  constructor(entries) {
    this.tokens = new Map(entries);
    const contents = [...this.tokens.keys()].sort((a, b) => b.length - a.length);
    const escaped = contents.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
    this.pattern = entries.length ? new RegExp(escaped.join("|"), "gu") : null;
  }

  split(text) {
    if (this.pattern === null) return [text];
    const parts = [];
    let start = 0;
    for (const match of text.matchAll(this.pattern)) {
      parts.push(text.slice(start, match.index), this.tokens.get(match[0]));
      start = match.index + match[0].length;
    }
    return [...parts, text.slice(start)];
  }
}

/** The characters that stand for bytes, as GPT-2 defined them. */
const BYTE_CHARACTERS = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(printable ? byte : next++);
  });
})();

function flatten(part, members) {
  if (part == null) return [];
  return part.type === "Sequence" ? part[members].flatMap((step) => flatten(step, members)) : [part];
}

function pairKey(left, right) {
  return left * 0x1000000 + right;
}

/** Merge neighbours: of all pairs the one of the lowest rank, and of equal ones the leftmost. */
function merge(tokens, merges) {
  const before = tokens.map((_, i) => i - 1);
  const after = tokens.map((_, i) => i + 1);
  const queue = new Queue();
  const add = (left) => {
    const found = merges.get(pairKey(tokens[left], tokens[after[left]]));
    if (found !== undefined) queue.push(found[0], left);
  };
  for (let i = 0; i + 1 < tokens.length; i++) add(i);
  for (let entry = queue.pop(); entry !== undefined; entry = queue.pop()) {
    const [rank, i] = entry;
    if (tokens[i] < 0 || after[i] === tokens.length) continue;
    const found = merges.get(pairKey(tokens[i], tokens[after[i]]));
    if (found === undefined || found[0] !== rank) continue; // merged with another one meanwhile
    const right = after[i];
    [tokens[i], tokens[right]] = [found[1], -1];
    after[i] = after[right];
    if (after[i] < tokens.length) {
      before[after[i]] = i;
      add(i);
    }
    if (before[i] >= 0) add(before[i]);
  }
  return tokens.filter((token) => token >= 0);
}

/** A binary heap of ranks and positions, the smallest first. */
class Queue {
  entries = [];

  push(rank, position) {
    const { entries } = this;
    let i = entries.push([rank, position]) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isLess(entries[i], entries[parent])) break;
      [entries[i], entries[parent]] = [entries[parent], entries[i]];
      i = parent;
    }
  }

  pop() {
    const { entries } = this;
    const first = entries[0];
    const last = entries.pop();
    if (entries.length === 0) return first;
    entries[0] = last;
    for (let i = 0; ; ) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < entries.length && isLess(entries[child], entries[least])) least = child;
      }
      if (least === i) return first;
      [entries[i], entries[least]] = [entries[least], entries[i]];
      i = least;
    }
  }
}

function isLess([rank, position], [otherRank, otherPosition]) {
  return rank < otherRank || (rank === otherRank && position < otherPosition);
}
