// The page: what a visitor chooses goes into the pipeline, and its pictures onto canvases.

import * as ort from "./onnxruntime/onnxruntime.js";
import { Pipeline, valuesOf } from "./pipeline.js";

const BATCH = 4; // pictures at a time, so that the first ones appear early
const SMALL = 128; // pixels; smaller pictures are enlarged without blur
const $ = (id) => document.getElementById(id);
const element = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

let pipeline; // networks and numbers
let drawing = 0; // number of the latest drawing, which ends earlier ones
let edited; // { z0, index, values, canvas } of the picture in the editor

function say(text, share) {
  $("status").className = "";
  $("status").textContent = text;
  $("progress").className = share === undefined ? "idle" : "";
  $("progress").value = share ?? 0;
}

function fail(error) {
  say(`Error: ${error.message ?? error}`);
  $("status").className = "error";
}

// ---- pictures

// Put an image (C, H, W) in [-1, 1] on a canvas; a grey one has C below 3, one with alpha an even C.
function show(canvas, image) {
  const [channels, height, width] = pipeline.numbers.image_shape, pixels = height * width;
  const colours = channels < 3 ? [0, 0, 0] : [0, 1, 2];
  const alpha = channels % 2 ? undefined : channels - 1;
  const level = (channel, i) => Math.round((Math.min(Math.max(image[channel * pixels + i], -1), 1) + 1) * 127.5);
  const data = new ImageData(width, height);
  for (let i = 0; i < pixels; i++) {
    data.data.set([...colours.map((channel) => level(channel, i)), alpha === undefined ? 255 : level(alpha, i)], 4 * i);
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

function blank() {
  const [, height, width] = pipeline.numbers.image_shape;
  return element("canvas", { width, height, className: Math.max(width, height) <= SMALL ? "small" : "" });
}

// A file as image (C, H, W) in [-1, 1]: its middle, resized, on white.
async function read(file) {
  const [channels, height, width] = pipeline.numbers.image_shape;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} must be a picture that this browser can open; choose a PNG or JPEG file`);
  }
  const scale = Math.min(bitmap.width / width, bitmap.height / height);
  const [w, h] = [width * scale, height * scale];
  const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  Object.assign(context, { fillStyle: "white", imageSmoothingQuality: "high" });
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const grey = (i) => Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
  const sign = $("invert").checked ? -1 : 1;
  return Float32Array.from({ length: channels * height * width }, (_, i) => {
    const channel = Math.floor(i / (height * width)), at = 4 * (i % (height * width));
    if (channels % 2 === 0 && channel === channels - 1) return 1; // opaque
    return sign * ((channels < 3 ? grey(at) : data[at + channel]) / 127.5 - 1);
  });
}

// ---- draw

function buildForm() {
  const { noise, guidance, image_shape: [channels] } = pipeline.numbers;
  for (const { name, kind, classes, mean, std } of pipeline.attributes) {
    const id = `attribute ${name}`;
    const choices = kind === "categorical" ? classes : ["no", "yes"];
    const any = name === "label" ? "each in turn" : "any";
    const field = kind === "continuous"
      ? element("input", { id, type: "number", step: "any", placeholder: "any", title: `mean ${mean}, spread ${std}` })
      : element("select", { id }, new Option(any, ""), ...choices.map((text, value) => new Option(text, value)));
    $("attributes").append(element("label", {}, name === "label" ? "Class" : name, field));
  }
  const labels = pipeline.attributes.find(({ name }) => name === "label")?.classes ?? [];
  $("seed").value = noise.seed;
  $("count").value = labels.length > 1 && labels.length <= 12 ? labels.length : 8;
  $("steps").append(...Object.keys(pipeline.page.samplers).map((steps) => new Option(steps)));
  $("steps").value = pipeline.page.steps;
  $("scale").max = Math.max(8, guidance.scale);
  $("scale").value = guidance.scale;
  if (Number($("scale").value) !== guidance.scale) { // between two steps of the slider
    $("scale").step = "any";
    $("scale").value = guidance.scale;
  }
  $("guidance").hidden = !pipeline.attributes.length;
  $("inverted").hidden = channels > 2;
}

// The values that the visitor chose, by attribute.
function choices() {
  const fields = pipeline.attributes.map(({ name }) => [name, $(`attribute ${name}`).value]);
  return Object.fromEntries(fields.filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]));
}

function showCommand(settings, count) {
  const text = ({ name, classes }) => (classes.length ? classes[settings.chosen[name]] : settings.chosen[name]);
  const options = pipeline.attributes.filter(({ name }) => name in settings.chosen).map((attribute) =>
    attribute.name === "label" ? ` --label "${text(attribute)}"` : ` --attribute "${attribute.name}=${text(attribute)}"`);
  $("command").textContent = `python run.py${options.join("")} --seed ${settings.seed} --count ${count}`;
  const { page: { steps }, numbers: { guidance: { scale } } } = pipeline;
  const usual = settings.steps === steps && settings.scale === scale;
  $("command-note").textContent = usual ? "" : `, but with ${steps} steps and guidance ${scale}`;
}

async function draw() {
  const number = ++drawing, count = $("count").valueAsNumber;
  const settings = {
    seed: String($("seed").valueAsNumber), chosen: choices(), steps: Number($("steps").value), scale: Number($("scale").value),
  };
  const all = Array.from({ length: count }, (_, index) => index);
  const labels = pipeline.attributes.find(({ name }) => name === "label")?.classes;
  const valuesAt = (index) => valuesOf(pipeline.attributes, settings.chosen, index);
  const inTurn = labels && !Object.keys(settings.chosen).length;
  const cells = all.map((index) => {
    const canvas = blank();
    const name = labels?.[valuesAt(index).label] ?? "";
    const title = `${name ? `${name}, ` : ""}picture ${index}${pipeline.directions ? ": edit it" : ""}`;
    return { canvas, button: element("button", { type: "button", disabled: true, title, ariaPressed: "false" }, canvas, inTurn ? name : "") };
  });
  $("grid").replaceChildren(...cells.map(({ button }) => button));
  $("save").hidden = true;
  showCommand(settings, count);
  const evaluations = pipeline.page.samplers[settings.steps].evaluations.length * Math.ceil(count / BATCH);
  const began = performance.now();
  let done = 0;
  const step = () => {
    if (number !== drawing) throw new Superseded();
    say(`Drawing ${count === 1 ? "a picture" : `${count} pictures`}`, ++done / evaluations);
  };
  say("Drawing", 0);
  for (let first = 0; first < count; first += BATCH) {
    const indices = all.slice(first, first + BATCH);
    const z0 = await pipeline.latents({ ...settings, indices }, step);
    const images = await pipeline.decode(z0, indices);
    if (number !== drawing) throw new Superseded();
    indices.forEach((index, row) => {
      const { canvas, button } = cells[index], part = (array) => {
        const size = array.length / indices.length;
        return array.slice(row * size, (row + 1) * size);
      };
      show(canvas, part(images));
      button.disabled = !pipeline.directions;
      button.onclick = () => attempt(() => {
        for (const cell of cells) cell.button.ariaPressed = cell.button === button;
        return edit({ z0: part(z0), index, values: valuesAt(index) }, [["Drawn", part(images)]]);
      });
    });
    if (!first && pipeline.directions && !edited) cells[0].button.click();
  }
  $("save").hidden = false;
  say(`${count === 1 ? "1 picture" : `${count} pictures`} in ${((performance.now() - began) / 1000).toFixed(1)} seconds`);
}

class Superseded extends Error {} // by a later drawing

function save() {
  const canvases = [...$("grid").querySelectorAll("canvas")], { width, height } = canvases[0];
  const columns = Math.ceil(Math.sqrt(canvases.length)), rows = Math.ceil(canvases.length / columns);
  const all = element("canvas", { width: columns * width, height: rows * height }), context = all.getContext("2d");
  canvases.forEach((canvas, i) => context.drawImage(canvas, (i % columns) * width, Math.floor(i / columns) * height));
  element("a", { href: all.toDataURL(), download: "grid.png" }).click();
}

// ---- edit

function buildSliders() {
  const { targets, strengths: [min, max] } = pipeline.page;
  $("sliders").append(...targets.map(({ name }) => {
    const input = element("input", { type: "range", min, max, step: 0.1, value: 0 }), output = element("output", {}, "0");
    input.oninput = () => {
      output.textContent = input.value;
      attempt(decodeEdit);
    };
    return element("label", { title: name }, element("span", {}, name), input, output);
  }));
}

const sliders = () => [...$("sliders").querySelectorAll("input")];

function resetSliders() {
  for (const input of sliders()) input.value = 0;
  for (const output of $("sliders").querySelectorAll("output")) output.textContent = "0";
}

// Put a picture into the editor; `images` are pairs of caption and image, shown beside the edit.
async function edit(picture, images) {
  const views = [...images, ["Edited"]].map(([caption, image]) => {
    const canvas = blank();
    if (image) show(canvas, image);
    return { canvas, figure: element("figure", {}, canvas, element("figcaption", {}, caption)) };
  });
  $("views").replaceChildren(...views.map(({ figure }) => figure));
  edited = { ...picture, canvas: views.at(-1).canvas };
  await decodeEdit();
}

// Decode the edited latent: one at a time, and the latest strengths last.
let decoding = false, again = false;
async function decodeEdit() {
  if (decoding || !edited) {
    again = decoding;
    return;
  }
  decoding = true;
  try {
    do {
      again = false;
      const { z0, index, values, canvas } = edited, strengths = sliders().map((input) => Number(input.value));
      const latents = await pipeline.edited(z0, index, values, strengths, $("refine").checked);
      show(canvas, await pipeline.decode(latents, [index]));
    } while (again);
  } finally {
    decoding = false;
  }
}

async function open() {
  const [file] = $("file").files;
  if (!file) return;
  say(`Encoding ${file.name}`);
  const image = await read(file), z0 = await pipeline.encode(image);
  for (const button of $("grid").children) button.ariaPressed = "false";
  const picture = { z0, index: 0, values: {} };
  await edit(picture, [["Yours", image], ["Reconstruction", await pipeline.decode(z0, [0])]]);
  say(`${file.name} is in the editor`);
}

// ---- start

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Superseded)) fail(error);
  }
}

function describe() {
  const { image_shape: [channels, height, width], latent_shape: latent, sampler, process } = pipeline.numbers;
  const { bytes } = pipeline.page, size = (name) => `${(bytes[name] / 2 ** 20).toFixed(1)} MiB`;
  $("about").textContent = `Pictures of ${width} x ${height} pixels${channels < 3 ? " in grey" : ""}; latents of `
    + `${latent.join(" x ")} numbers; sampler ${sampler.name} on the path ${process.path}. The denoiser has `
    + `${size("denoiser.onnx")}, the decoder ${size("decoder.onnx")}. ONNX Runtime Web runs them on one thread.`;
}

await attempt(async () => {
  const mib = (count) => (count / 2 ** 20).toFixed(0);
  pipeline = await Pipeline.open(new URL(".", import.meta.url), ort, (loaded, total) =>
    say(`Loading the networks: ${mib(loaded)} of ${mib(total)} MiB`, loaded / total));
  buildForm();
  describe();
  if (pipeline.directions) {
    buildSliders();
    $("edit").hidden = false;
    $("refine").checked = Boolean(pipeline.page.sdedit);
    $("refining").hidden = !pipeline.page.sdedit;
    $("refine").onchange = () => attempt(decodeEdit);
  }
  const showScale = () => ($("guidance").querySelector("output").textContent = $("scale").value);
  showScale();
  $("scale").oninput = showScale;
  $("draw").onsubmit = (event) => {
    event.preventDefault();
    attempt(draw);
  };
  $("next").onclick = () => {
    $("seed").value = Number($("seed").value) + 1;
    $("draw").requestSubmit();
  };
  $("save").onclick = save;
  $("reset").onclick = () => {
    resetSliders();
    attempt(decodeEdit);
  };
  $("file").onchange = $("invert").onchange = () => attempt(open);
  document.querySelector("main").hidden = false;
  await draw();
});
