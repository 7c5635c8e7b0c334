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
  const [channels] = layer.in;
  const [maps, rows, columns] = layer.out;
  const area = layer.kernel[0] * layer.kernel[1];
  const planes = paddedPlanes(layer, x);
  const sums = new Float64Array(rows * columns);
  const result = new Float32Array(size(layer.out));
  for (let map = 0; map < maps; map++) {
    sums.fill(layer.bias ? layer.bias[map] : 0);
    for (const channel of layer.seen ? layer.seen[map] : planes.keys()) {
      const start = (map * channels + channel) * area;
      addConvolved(sums, planes[channel], layer.weight.subarray(start, start + area), layer);
    }
    result.set(sums, map * rows * columns);
  }
  return result;
}

/** Each input map with its padding of zeros, in double precision. */
function paddedPlanes({ in: [channels, height, width], pad: [down, across] }, x) {
  const outer = width + 2 * across;
  return Array.from({ length: channels }, (_, channel) => {
    const plane = new Float64Array((height + 2 * down) * outer);
    for (let row = 0; row < height; row++) {
      const start = (channel * height + row) * width;
      plane.set(x.subarray(start, start + width), (row + down) * outer + across);
    }
    return plane;
  });
}

/** Add to each sum of a map the products of one input map's window with the kernel. The page's inner loop. */
function addConvolved(sums, plane, kernel, layer) {
  const [, rows, columns] = layer.out;
  const [height, width] = layer.kernel;
  const [down, across] = layer.stride;
  const outer = layer.in[2] + 2 * layer.pad[1];
  for (let k = 0; k < height * width; k++) {
    const weight = kernel[k];
    const corner = Math.floor(k / width) * outer + (k % width);
    for (let row = 0, i = 0; row < rows; row++) {
      const end = i + columns;
      for (let at = corner + row * down * outer; i < end; i++, at += across) sums[i] += weight * plane[at];
    }
  }
}

function pool(layer, x) {
  const [maps, rows, columns] = layer.out;
  const [, height, width] = layer.in;
  const { kernel, stride, pad } = layer;
  const result = new Float32Array(size(layer.out));
  let i = 0;
  for (let map = 0; map < maps; map++) {
    for (let row = 0; row < rows; row++) {
      const [top, bottom] = [Math.max(row * stride[0] - pad[0], 0), Math.min(row * stride[0] - pad[0] + kernel[0], height)];
      for (let column = 0; column < columns; column++, i++) {
        const start = column * stride[1] - pad[1];
        const [left, right] = [Math.max(start, 0), Math.min(start + kernel[1], width)];
        let [sum, largest] = [0, -Infinity];
        for (let y = top; y < bottom; y++) {
          for (let at = (map * height + y) * width + left, end = at + right - left; at < end; at++) {
            sum += x[at];
            if (x[at] > largest || x[at] !== x[at]) largest = x[at];
          }
        }
        const count = layer.countPad ? kernel[0] * kernel[1] : (bottom - top) * (right - left);
        result[i] = layer.how === "max" ? largest : sum / count;
      }
    }
  }
  return result;
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
