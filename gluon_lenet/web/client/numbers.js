// Base64, half-precision bytes and lists of numbers -> numbers, rounded and ranked as NumPy does it.

/** Base64 text -> its bytes. */
export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** One IEEE half-precision number (16 bits) -> the same number. */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Little-endian half-precision bytes -> Float32Array. */
export function floatsOf(bytes) {
  const floats = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < floats.length; i++) floats[i] = halfToNumber(bytes[2 * i] | (bytes[2 * i + 1] << 8));
  return floats;
}

/** The nearest whole number; of two equally near ones the even one, as Python's round and NumPy's rint. */
export function rint(x) {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

export const clamp = (x, least, most) => Math.min(Math.max(x, least), most);

/** The value that stands at place k if the values are sorted (Hoare's selection); `values` are reordered. */
function select(values, k) {
  let [left, right] = [0, values.length - 1];
  while (left < right) {
    const pivot = values[(left + right) >> 1];
    let [i, j] = [left, right];
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const value = values[i];
      values[i++] = values[j];
      values[j--] = value;
    }
    if (k <= j) right = j;
    else if (k >= i) left = i;
    else break;
  }
  return values[k];
}

/** float32 values -> their median, a float32 as NumPy's. */
export function median(values) {
  const copy = new Float32Array(values);
  const middle = copy.length >> 1;
  const upper = select(copy, middle);
  if (copy.length % 2) return upper;
  return Math.fround(Math.fround(select(copy, middle - 1) + upper) / 2);
}

/** float32 values -> their q-th percentile (0 to 100), interpolated linearly in float32. */
export function percentile(values, q) {
  const copy = new Float32Array(values);
  const place = (q / 100) * (copy.length - 1);
  const below = Math.floor(place);
  const [a, b] = [select(copy, below), select(copy, Math.min(below + 1, copy.length - 1))];
  const t = Math.fround(place - below);
  const step = Math.fround(b - a);
  return t >= 0.5 ? Math.fround(b - Math.fround(step * Math.fround(1 - t))) : Math.fround(a + Math.fround(step * t));
}

export function mean(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** The position of the largest value, the first of equal ones. */
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Logits -> probabilities, or null if a logit is not finite. */
export function softmax(logits) {
  if (!logits.every(Number.isFinite)) return null;
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/** A generator of numbers from 0 to 1 (mulberry32): the same scribble for the same seed. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
