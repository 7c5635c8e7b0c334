// A net, its trace and a unit -> how the unit's value came about, which input pixels it sees, why a class won.
import { ACTIVATIONS, forward, logits, size, windowOf } from "./net.js";

/**
 * @typedef {{layer: number, map: number, row: number, column: number}} Unit  a cell of layer `layer` (from 0)
 * @typedef {{map: number, height: number, width: number, values: number[], weights: ?number[], products: number[],
 *   sum: number}} Part  one map of the layer before; a value outside it is NaN and counts 0
 */

export const indexOf = (layer, { map, row, column }) => (map * layer.out[1] + row) * layer.out[2] + column;

/** How a unit is computed. @returns {{parts: Part[], bias: ?number, before: number, value: number}} */
export function explain(net, trace, unit) {
  const layer = net.layers[unit.layer];
  const parts = PARTS[layer.kind](layer, trace.values[unit.layer], unit);
  const i = indexOf(layer, unit);
  const bias = layer.bias ? layer.bias[unit.map] : null;
  return { parts, bias, before: trace.pre[unit.layer][i], value: trace.values[unit.layer + 1][i] };
}

export const activate = (layer, x) => (layer.act ? ACTIVATIONS[layer.act](x) : x);

const PARTS = { conv: convParts, pool: poolParts, subsample: subsampleParts, dense: denseParts, rbf: rbfParts };

function part(map, height, width, values, weights, combine) {
  const products = values.map((x, i) => (Number.isNaN(x) ? 0 : combine(x, weights ? weights[i] : 1)));
  return { map, height, width, values, weights, products, sum: products.reduce((a, b) => a + b, 0) };
}

/** The values of one map inside a window, row by row; NaN outside the map. */
function valuesIn(window, [, height, width], x, map) {
  const values = [];
  for (let row = window.top; row < window.bottom; row++) {
    for (let column = window.left; column < window.right; column++) {
      const inside = row >= 0 && column >= 0 && row < height && column < width;
      values.push(inside ? x[(map * height + row) * width + column] : NaN);
    }
  }
  return values;
}

function convParts(layer, x, { map, row, column }) {
  const [channels] = layer.in;
  const [kh, kw] = layer.kernel;
  const window = windowOf(layer, row, column);
  return mapsSeen(layer, map).map((channel) => {
    const start = (map * channels + channel) * kh * kw;
    const weights = Array.from(layer.weight.subarray(start, start + kh * kw));
    return part(channel, kh, kw, valuesIn(window, layer.in, x, channel), weights, (a, b) => a * b);
  });
}

/** The maps of the layer before that a unit's map is computed from. */
export function mapsSeen(layer, map) {
  if (layer.kind === "pool" || layer.kind === "subsample") return [map];
  if (layer.seen) return layer.seen[map];
  return Array.from({ length: layer.in[0] }, (_, i) => i);
}

function poolParts(layer, x, { map, row, column }) {
  const window = windowOf(layer, row, column);
  const values = valuesIn(window, layer.in, x, map);
  if (layer.how === "avg") {
    const count = layer.countPad ? values.length : values.filter((v) => !Number.isNaN(v)).length;
    return [part(map, ...layer.kernel, values, null, (a) => a / count)];
  }
  const inside = values.filter((v) => !Number.isNaN(v));
  const winner = values.indexOf(Math.max(...inside));
  const one = part(map, ...layer.kernel, values, null, (a) => a);
  return [{ ...one, products: values.map((v, i) => (i === winner ? v : 0)), sum: values[winner], winner }];
}

function subsampleParts(layer, x, { map, row, column }) {
  const values = valuesIn(windowOf(layer, row, column), layer.in, x, map);
  const weights = values.map(() => layer.coefficient[map]);
  return [part(map, 2, 2, values, weights, (a, b) => a * b)];
}

function flatParts(layer, x, array, unit, combine) {
  const [channels, height, width] = layer.in;
  const start = unit * size(layer.in);
  return Array.from({ length: channels }, (_, map) => {
    const at = map * height * width;
    const values = Array.from(x.subarray(at, at + height * width));
    const weights = Array.from(array.subarray(start + at, start + at + height * width));
    return part(map, height, width, values, weights, combine);
  });
}

function denseParts(layer, x, { map }) {
  return flatParts(layer, x, layer.weight, map, (a, b) => a * b);
}

function rbfParts(layer, x, { map }) {
  return flatParts(layer, x, layer.centres, map, (a, b) => -((a - b) ** 2));
}

/**
 * The cells of every earlier layer that a unit's value depends on: regions[0] of the input, regions[i] of layer i - 1;
 * `maps` are those it is computed from directly or through others.
 * @returns {{top: number, bottom: number, left: number, right: number, maps: number[]}[]} ends excluded
 */
export function regions(net, unit) {
  const result = [];
  let region = { top: unit.row, bottom: unit.row + 1, left: unit.column, right: unit.column + 1, maps: [unit.map] };
  for (let i = unit.layer; i >= 0; i--) {
    region = before(net.layers[i], region);
    result.unshift(region);
  }
  return result;
}

function before(layer, region) {
  const [channels, height, width] = layer.in;
  const maps = [...new Set(region.maps.flatMap((map) => mapsSeen(layer, map)))].sort((a, b) => a - b);
  if (!layer.kernel) return { top: 0, left: 0, bottom: height, right: width, maps: Array.from(Array(channels).keys()) };
  const [first, last] = [windowOf(layer, region.top, region.left), windowOf(layer, region.bottom - 1, region.right - 1)];
  const [top, left] = [Math.max(first.top, 0), Math.max(first.left, 0)];
  return { top, left, bottom: Math.min(last.bottom, height), right: Math.min(last.right, width), maps };
}

/**
 * The exact shares of the last layer's inputs in a class's logit, or, with `rival`, in its lead over the rival's.
 * @returns {{shares: Float32Array, bias: number, total: number}} total = bias + the sum of the shares
 */
export function shares(net, trace, winner, rival = null) {
  const last = net.layers.length - 1;
  const of = (map) => explain(net, trace, { layer: last, map, row: 0, column: 0 });
  const [ours, theirs] = [of(winner), rival === null ? null : of(rival)];
  const flat = (found) => found.parts.flatMap((one) => one.products);
  const other = theirs ? flat(theirs) : null;
  const result = Float32Array.from(flat(ours), (x, i) => x - (other ? other[i] : 0));
  const bias = (ours.bias || 0) - (theirs ? theirs.bias || 0 : 0);
  return { shares: result, bias, total: ours.before - (theirs ? theirs.before : 0) };
}

/** How much a net prefers a class to all others: the logarithm of p / (1 - p), exact even if p is nearly 1. */
export function logOdds(outputs, winner) {
  const others = Array.from(outputs).filter((_, i) => i !== winner);
  const largest = Math.max(...others);
  return outputs[winner] - largest - Math.log(others.reduce((sum, x) => sum + Math.exp(x - largest), 0));
}

/**
 * What each patch of the image is worth to a class: the log-odds lost if the patch is set to background.
 * Yields after each patch, so that the page can do it in pieces; the last value yielded holds the whole map.
 */
export function* occlude(net, image, side, toInput, winner, patch = 4, stride = 2) {
  const whole = logOdds(logits(forward(net, toInput(image))), winner);
  const [sums, counts] = [new Float32Array(side * side), new Float32Array(side * side)];
  for (let top = 2 - patch; top < side; top += stride) {
    for (let left = 2 - patch; left < side; left += stride) {
      const cells = patchCells(side, top, left, patch);
      if (!cells.some((i) => image[i])) continue; // nothing to rub out
      const without = image.slice();
      for (const i of cells) without[i] = 0;
      const lost = whole - logOdds(logits(forward(net, toInput(without))), winner);
      for (const i of cells) [sums[i], counts[i]] = [sums[i] + lost, counts[i] + 1];
      yield null;
    }
  }
  yield sums.map((sum, i) => (counts[i] && image[i] ? sum / counts[i] : 0));
}

function patchCells(side, top, left, patch) {
  const cells = [];
  for (let row = Math.max(top, 0); row < Math.min(top + patch, side); row++) {
    for (let column = Math.max(left, 0); column < Math.min(left + patch, side); column++) cells.push(row * side + column);
  }
  return cells;
}
