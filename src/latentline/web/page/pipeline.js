// The pipeline of run.py in the browser: noise, conditions, sampler, networks. See pipeline.json for its numbers.

// Standard normal noise of image `index`, a Float32Array: that of torch.randn in the training program.
export function startNoise(seed, name, index, size) {
  const word = mersenneTwister(seedOf(`${seed}/${name}/${index}`));
  const noise = new Float32Array(size);
  if (size < 16) {
    const uniform = () => ((word() & 0x1fffff) * 2 ** 32 + word()) / 2 ** 53;
    for (let i = 0; i < size; i += 2) {
      const angle = 2 * Math.PI * uniform(), radius = Math.sqrt(-2 * Math.log1p(-uniform()));
      noise.set([radius * Math.cos(angle), radius * Math.sin(angle)].slice(0, size - i), i);
    }
    return noise;
  }
  const uniforms = (count) => Array.from({ length: count }, () => (word() & 0xffffff) / 2 ** 24);
  const all = uniforms(size);
  for (let i = 0; i + 16 <= size; i += 16) noise.set(sixteen(all.slice(i, i + 16)), i);
  if (size % 16) noise.set(sixteen(uniforms(16)), size - 16);
  return noise;
}

// Box and Muller: 8 radii and 8 angles make 8 cosines and 8 sines.
function sixteen(uniform) {
  const radius = uniform.slice(0, 8).map((u) => Math.sqrt(-2 * Math.log(1 - u)));
  const angle = uniform.slice(8).map((u) => Math.fround(Math.fround(2 * Math.PI) * u));
  return [...radius.map((r, i) => r * Math.cos(angle[i])), ...radius.map((r, i) => r * Math.sin(angle[i]))];
}

// A function that returns the 32-bit words of MT19937 (Matsumoto and Nishimura 1998).
function mersenneTwister(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = 624;
  return () => {
    if (next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

// The lower 32 of the first 63 bits of the SHA-256 of a text below 56 bytes, one block of the method. The browser's own
// crypto.subtle is absent where a page comes by http from another machine.
function seedOf(text) {
  const bytes = new TextEncoder().encode(text);
  const block = new DataView(new ArrayBuffer(64));
  bytes.forEach((byte, i) => block.setUint8(i, byte));
  block.setUint8(bytes.length, 0x80);
  block.setUint32(60, 8 * bytes.length);
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => Math.floor((x % 1) * 2 ** 32);
  const start = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  const rotated = (x, n) => (x >>> n) | (x << (32 - n));
  const w = [];
  for (let i = 0; i < 64; i++) {
    if (i < 16) w[i] = block.getUint32(4 * i);
    else {
      const a = w[i - 15], b = w[i - 2];
      const s0 = rotated(a, 7) ^ rotated(a, 18) ^ (a >>> 3), s1 = rotated(b, 17) ^ rotated(b, 19) ^ (b >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
  }
  let [a, b, c, d, e, f, g, h] = start;
  for (let i = 0; i < 64; i++) {
    const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25), s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + fraction(Math.cbrt(primes[i])) + w[i]) | 0;
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [a, b, c, d, e, f, g, h] = [(t1 + t2) | 0, a, b, c, (d + t1) | 0, e, f, g];
  }
  const first = (start[0] + a) | 0, second = (start[1] + b) | 0;
  return ((second >>> 1) | (first << 31)) >>> 0;
}

// The values of image `index`: those chosen, by attribute. Without any choice the classes come in turn.
export function valuesOf(attributes, chosen, index) {
  const label = attributes.find(({ name }) => name === "label");
  return label && !Object.keys(chosen).length ? { label: index % label.classes.length } : chosen;
}

// The condition of an image with these values, a list of numbers; zeros without a value.
export function conditionVector(attributes, values) {
  return attributes.flatMap(({ name, kind, classes, mean, std }) => {
    const value = values[name];
    if (kind === "categorical") return classes.map((_, i) => (i === value ? 1 : 0));
    if (kind === "binary") return [value === undefined ? 0 : 2 * value - 1];
    return value === undefined ? [0, 0] : [1, (value - mean) / std];
  });
}

export class Pipeline {
  // Fetch the numbers and networks of `folder`; onProgress(loaded, total) counts bytes.
  static async open(folder, ort, onProgress = () => {}) {
    const json = async (name) => (await fetched(new URL(name, folder))).json();
    const pipeline = new Pipeline();
    Object.assign(pipeline, { ort, folder, numbers: await json("pipeline.json"), page: await json("page.json") });
    const { bytes, targets } = pipeline.page;
    const runtime = "onnxruntime/onnxruntime.wasm";
    const names = Object.keys(bytes).filter((name) => name !== "encoder.onnx");
    const total = names.reduce((sum, name) => sum + bytes[name], 0);
    let loaded = 0;
    const load = (name) => download(new URL(name, folder), (count) => onProgress((loaded += count), total));
    ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
    ort.env.wasm.proxy = true; // in a worker, so that the page stays alive
    ort.env.wasm.wasmBinary = (await load(runtime)).buffer;
    pipeline.sessions = {};
    for (const name of names.filter((name) => name !== runtime)) {
      pipeline.sessions[name.replace(".onnx", "")] = await ort.InferenceSession.create(await load(name));
    }
    if (targets.length) {
      const response = await fetched(new URL("directions.f32", folder));
      pipeline.directions = new Float32Array(await response.arrayBuffer());
    }
    return pipeline;
  }

  get latentSize() {
    return product(this.numbers.latent_shape);
  }

  get attributes() {
    return this.numbers.condition.attributes;
  }

  // Standardised latents, a Float32Array, of the images `indices`; onStep() is called after each evaluation. With the
  // steps and the scale of the training program they get the moments of the training latents.
  async latents({ seed, indices, chosen, steps, scale }, onStep = () => {}) {
    const noise = joined(indices.map((index) => startNoise(seed, this.numbers.noise.name, index, this.latentSize)));
    const values = indices.map((index) => valuesOf(this.attributes, chosen, index));
    const z0 = await this.sampled(this.page.samplers[steps], noise, values, { ...this.numbers.guidance, scale }, onStep);
    if (!this.matches(steps, scale)) return z0;
    const cond = this.conditions(values), count = indices.length;
    return this.run("moments", {
      z: [z0, [count, ...this.numbers.latent_shape]], condition: [cond, [count, cond.length / count]],
    });
  }

  // Whether pictures of these settings get the moments of the training latents.
  matches(steps, scale) {
    return Boolean(this.numbers.moments) && steps === this.page.steps && scale === this.numbers.guidance.scale;
  }

  conditions(values) {
    return joined(values.map((each) => conditionVector(this.attributes, each)));
  }

  // SDEdit (arXiv 2108.01073): noise the latents of image `index`, and denoise them conditioned on `values`.
  async sdedit(z0, index, values) {
    const { alpha, sigma, noise, guidance, ...table } = this.page.sdedit;
    const added = startNoise(noise.seed, noise.name, index, z0.length);
    return this.sampled(table, z0.map((value, i) => alpha * value + sigma * added[i]), [values], guidance);
  }

  sampled(table, start, values, guidance, onStep = () => {}) {
    const cond = this.conditions(values);
    return follow(table, start, async (z, t) => {
      const output = await this.guided(z, t, cond, values.length, guidance);
      onStep();
      return output;
    });
  }

  // The denoiser's output, guided away from what a network predicts without a condition.
  async guided(z, t, cond, count, { scale, start, end, rescale, network }) {
    const shape = this.numbers.latent_shape;
    const output = await this.denoised("denoiser", z, t, cond, count, shape);
    if (scale === 1 || !cond.length || t < start - 1e-7 || t > end + 1e-7) return output;
    const uncond = await this.denoised(network, z, t, new Float32Array(cond.length), count, shape);
    const guided = output.map((value, i) => uncond[i] + Math.fround(scale) * (value - uncond[i]));
    if (!rescale) return guided;
    const size = guided.length / count;
    const factors = Array.from({ length: count }, (_, row) => {
      const part = [row * size, (row + 1) * size];
      return 1 + rescale * (deviation(output.subarray(...part)) / deviation(guided.subarray(...part)) - 1);
    });
    return guided.map((value, i) => value * factors[Math.floor(i / size)]);
  }

  // Images in [-1, 1], a Float32Array, of standardised latents; a diffusion autoencoder takes the noise of `indices`.
  async decode(z0, indices) {
    const { latents, latent_shape: shape, diffusion_decoder: inner } = this.numbers;
    let raw = restored(z0, latents, this.latentSize);
    let rawShape = shape;
    if (inner) {
      const { noise, noise_shape: innerShape } = inner, size = product(innerShape);
      const start = joined(indices.map((index) => startNoise(noise.seed, noise.name, index, size)));
      const state = await follow(inner, start, (z, t) =>
        this.denoised("diffusion_decoder", z, t, raw, indices.length, innerShape));
      [raw, rawShape] = [restored(state, inner, size), innerShape];
    }
    return this.run("decoder", { latents: [raw, [indices.length, ...rawShape]] });
  }

  // Standardised latents of one image (C, H, W) in [-1, 1].
  async encode(image) {
    this.sessions.encoder ??= await this.ort.InferenceSession.create(
      await download(new URL("encoder.onnx", this.folder), () => {}));
    const raw = await this.run("encoder", { images: [image, [1, ...this.numbers.image_shape]] });
    const { mean, std } = this.numbers.latents, perChannel = raw.length / mean.length;
    return raw.map((value, i) => (value - mean[Math.floor(i / perChannel)]) / std[Math.floor(i / perChannel)]);
  }

  // Latents of image `index`, with these `values`, moved along each direction by a strength; with `refine` then SDEdit,
  // conditioned on the targets of the sliders above 0, of those of one attribute on the strongest.
  async edited(z0, index, values, strengths, refine) {
    const { targets } = this.page, size = z0.length;
    const moved = z0.map((value, i) =>
      strengths.reduce((sum, strength, k) => (strength ? sum + strength * this.directions[k * size + i] : sum), value));
    if (!refine || !strengths.some(Boolean)) return moved;
    const towards = strengths.map((strength, k) => [strength, targets[k]]).filter(([strength]) => strength > 0);
    towards.sort(([a], [b]) => a - b);
    const changed = Object.fromEntries(towards.map(([, { attribute, value }]) => [attribute, value]));
    return this.sdedit(moved, index, { ...values, ...changed });
  }

  denoised(name, z, t, condition, count, shape) {
    return this.run(name, {
      z: [z, [count, ...shape]],
      t: [new Float32Array(count).fill(t), [count]],
      condition: [condition, [count, condition.length / count]],
    });
  }

  // Evaluate a network on those of the inputs that it takes; each input is [Float32Array, shape].
  async run(name, inputs) {
    const session = this.sessions[name], feeds = {};
    for (const input of session.inputNames) {
      const [data, shape] = inputs[input];
      feeds[input] = new this.ort.Tensor("float32", data.slice(), shape); // a copy: the worker takes it over
    }
    const result = await session.run(feeds);
    return result[session.outputNames[0]].data;
  }
}

// Follow the table of a sampler: each state is a weighted sum of the noise and the outputs so far.
async function follow(table, noise, output) {
  const terms = [noise];
  for (const { state, t } of table.evaluations) terms.push(await output(combined(state, terms), t));
  return combined(table.result, terms);
}

function combined(weights, terms) {
  return terms[0].map((_, i) => weights.reduce((sum, weight, j) => (weight ? sum + weight * terms[j][i] : sum), 0));
}

// Raw latents of standardised ones, by the mean and the standard deviation of each channel.
function restored(z0, { mean, std }, size) {
  const perChannel = size / mean.length;
  const channel = (i) => Math.floor((i % size) / perChannel);
  return z0.map((value, i) => value * std[channel(i)] + mean[channel(i)]);
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

function joined(rows) {
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

function product(shape) {
  return shape.reduce((total, length) => total * length, 1);
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: ${response.status} ${response.statusText}`);
  return response;
}

// The bytes of a file; onChunk(count) is called as they arrive.
async function download(url, onChunk) {
  const reader = (await fetched(url)).body.getReader(), chunks = [];
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    size += part.value.length;
    onChunk(part.value.length);
  }
  const bytes = new Uint8Array(size);
  chunks.reduce((at, chunk) => (bytes.set(chunk, at), at + chunk.length), 0);
  return bytes;
}
