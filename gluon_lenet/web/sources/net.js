// A net's description and its weights, an input -> the values of every layer, before and after its activation.
import { bytesOf, floatsOf } from "./numbers.js";

/**
 * @typedef {object} Layer  one layer that computes, as describe.py writes it
 * @property {"conv"|"pool"|"subsample"|"dense"|"rbf"} kind
 * @property {string} name  C1, S2, ...
 * @property {number[]} in  its input's shape: [channels, height, width]
 * @property {number[]} out  its output's shape; a dense layer's is [units, 1, 1]
 * @property {?string} act  a key of ACTIVATIONS, or null
 *
 * @typedef {object} Trace  of one input: values[0] is the input, values[i + 1] the output of layer i, pre[i] the same
 *   before the activation; all Float32Array in the order channel, row, column
 */

const tanh = Math.tanh;
export const ACTIVATIONS = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh,
  relu: (x) => (x > 0 ? x : x < 0 ? 0 : x * 0), // NaN stays NaN
  softrelu: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  softsign: (x) => x / (1 + Math.abs(x)),
  scaled_tanh: (x) => 1.7159 * tanh((2 / 3) * x), // LeCun et al. 1998, appendix A
};

export const size = ([channels, height, width]) => channels * height * width;

/** A description from the page, its weights as base64 -> the same with an array of weights in each layer. */
export function readNet(description) {
  const all = floatsOf(bytesOf(description.weights));
  let start = 0;
  const take = (count) => all.subarray(start, (start += count));
  const layers = description.layers.map((layer) => {
    const arrays = Object.fromEntries(Object.entries(layer.arrays).map(([name, count]) => [name, take(count)]));
    return { ...layer, ...arrays };
  });
  return { ...description, layers, weights: null };
}

/** The values of every layer for one input (Float32Array, as `net.input` shapes it). @returns {Trace} */
export function forward(net, input) {
  const values = [input];
  const pre = [];
  for (const layer of net.layers) {
    const before = FORWARD[layer.kind](layer, values[values.length - 1]);
    pre.push(before);
    values.push(layer.act ? before.map(ACTIVATIONS[layer.act]) : before);
  }
  return { values, pre };
}

export const logits = (trace) => trace.values[trace.values.length - 1];

const FORWARD = { conv, pool, subsample, dense, rbf };

/** Sums are kept in double precision and rounded to float32 once: closer to the exact sum than float32 sums are. */
function conv(layer, x) {
  const [channels, height, width] = layer.in;
  const [maps, rows, columns] = layer.out;
  const [kh, kw] = layer.kernel;
  const sums = new Float64Array(rows * columns);
  const result = new Float32Array(size(layer.out));
  for (let map = 0; map < maps; map++) {
    sums.fill(layer.bias ? layer.bias[map] : 0);
    for (const channel of layer.seen ? layer.seen[map] : Array(channels).keys()) {
      const plane = x.subarray(channel * height * width, (channel + 1) * height * width);
      const kernel = layer.weight.subarray((map * channels + channel) * kh * kw, (map * channels + channel + 1) * kh * kw);
      for (let ky = 0; ky < kh; ky++) {
        for (let kx = 0; kx < kw; kx++) addShifted(sums, plane, kernel[ky * kw + kx], ky, kx, layer);
      }
    }
    result.set(sums, map * rows * columns);
  }
  return result;
}

/** Add one weight's part of a convolution to all of a map's sums. */
function addShifted(sums, plane, weight, ky, kx, { in: [, height, width], out: [, rows, columns], stride, pad }) {
  for (let row = 0; row < rows; row++) {
    const y = row * stride[0] + ky - pad[0];
    if (y < 0 || y >= height) continue;
    let x = kx - pad[1];
    for (let i = row * columns; i < (row + 1) * columns; i++, x += stride[1]) {
      if (x >= 0 && x < width) sums[i] += weight * plane[y * width + x];
    }
  }
}

function pool(layer, x) {
  const result = new Float32Array(size(layer.out));
  const [maps, rows, columns] = layer.out;
  let i = 0;
  for (let map = 0; map < maps; map++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, i++) result[i] = poolCell(layer, x, map, row, column);
    }
  }
  return result;
}

function poolCell(layer, x, map, row, column) {
  const [, height, width] = layer.in;
  const window = windowOf(layer, row, column);
  let [sum, largest, inside] = [0, -Infinity, 0];
  for (let y = Math.max(window.top, 0); y < Math.min(window.bottom, height); y++) {
    for (let z = Math.max(window.left, 0); z < Math.min(window.right, width); z++, inside++) {
      const value = x[(map * height + y) * width + z];
      sum += value;
      if (value > largest || value !== value) largest = value;
    }
  }
  return layer.how === "max" ? largest : sum / (layer.countPad ? layer.kernel[0] * layer.kernel[1] : inside);
}

/** The window of a cell in the layer before: rows top to bottom, columns left to right, ends excluded. */
export function windowOf(layer, row, column) {
  const [stride, pad] = [layer.stride, layer.pad];
  const [top, left] = [row * stride[0] - pad[0], column * stride[1] - pad[1]];
  return { top, left, bottom: top + layer.kernel[0], right: left + layer.kernel[1] };
}

/** LeNet-5's S2 and S4: the sum of a 2 x 2 square, times the map's coefficient, plus its bias. */
function subsample(layer, x) {
  const [, , width] = layer.in;
  const [maps, rows, columns] = layer.out;
  const result = new Float32Array(size(layer.out));
  for (let i = 0; i < result.length; i++) {
    const [map, row, column] = [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns];
    const corner = (map * layer.in[1] + 2 * row) * width + 2 * column;
    const sum = x[corner] + x[corner + 1] + x[corner + width] + x[corner + width + 1];
    result[i] = sum * layer.coefficient[map] + layer.bias[map];
  }
  return result;
}

function dense(layer, x) {
  const result = new Float32Array(layer.out[0]);
  for (let unit = 0; unit < result.length; unit++) {
    let sum = layer.bias ? layer.bias[unit] : 0;
    const start = unit * x.length;
    for (let i = 0; i < x.length; i++) sum += layer.weight[start + i] * x[i];
    result[unit] = sum;
  }
  return result;
}

/** LeNet-5's output: minus the squared distance of F6 to each class's fixed picture. */
function rbf(layer, x) {
  const result = new Float32Array(layer.out[0]);
  for (let unit = 0; unit < result.length; unit++) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum -= (x[i] - layer.centres[unit * x.length + i]) ** 2;
    result[unit] = sum;
  }
  return result;
}
