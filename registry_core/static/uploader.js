// Owns uploading with progress: several files, one after another, each with its own result. The form works without it.

import { durationText, progressText, sizeText, Speedometer } from "./progress.js";

const form = document.getElementById("upload");
const input = document.getElementById("file");
const drop = document.getElementById("drop");
const list = document.getElementById("files");
const stop = document.getElementById("stop");
const announcer = document.getElementById("announce");
const template = document.getElementById("file-template");
const queue = [];
let running = null;
let dragDepth = 0;

class Transfer {
  constructor(file, fields) {
    this.file = file;
    this.fields = fields;
    this.row = template.content.firstElementChild.cloneNode(true);
    this.bar = this.row.querySelector("progress");
    this.line = this.row.querySelector(".state");
    this.cancelButton = this.row.querySelector(".cancel");
    this.retryButton = this.row.querySelector(".retry");
    this.row.querySelector(".file-name").textContent = file.name;
    this.row.querySelector(".file-size").textContent = sizeText(file.size);
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
    this.cancelButton.setAttribute("aria-label", `Cancel ${file.name}`);
    this.retryButton.setAttribute("aria-label", `Try ${file.name} again`);
    this.cancelButton.addEventListener("click", () => this.cancel());
    this.retryButton.addEventListener("click", () => this.enqueue());
    list.append(this.row);
  }

  enqueue() {
    this.cancelled = false;
    this.request = null;
    this.row.classList.remove("failed");
    this.retryButton.hidden = true;
    this.cancelButton.hidden = false;
    this.bar.hidden = false;
    this.bar.value = 0;
    this.line.textContent = "Waiting";
    queue.push(this);
    startNext();
  }

  cancel() {
    this.cancelled = true;
    if (this.request) this.request.abort();
    else if (queue.includes(this)) {
      queue.splice(queue.indexOf(this), 1);
      this.fail("Cancelled. Nothing was stored.");
      showStop();
    }
  }

  async run() {
    const started = performance.now();
    this.line.textContent = "Asking whether it may come";
    try {
      await this.ask();
      const answer = await this.send();
      this.succeed(answer, performance.now() - started);
    } catch (error) {
      this.fail(this.cancelled ? "Cancelled. Nothing was stored." : error.message);
    }
  }

  // An upload that will be refused is refused here: while it sends, a browser often cannot read the reason.
  async ask() {
    const body = new URLSearchParams({ ...this.fields, size: String(this.file.size) });
    const answer = await fetch("/upload/check", { method: "POST", body, headers: { accept: "application/json" } })
      .catch(() => { throw new Error("The registry cannot be reached. Is the network there?"); });
    if (!answer.ok) throw new Error(sentenceOf(await answer.text(), answer.status));
    if (this.cancelled) throw new Error("cancelled");
  }

  send() {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const speed = new Speedometer();
      const data = new FormData();
      for (const [name, value] of Object.entries(this.fields)) data.append(name, value);
      data.append("file", this.file, this.file.name);
      this.request = request;
      request.upload.addEventListener("progress", (event) => {
        if (!event.lengthComputable) return;
        speed.note(event.loaded, performance.now());
        this.bar.value = event.loaded / event.total;
        this.line.textContent = event.loaded < event.total
          ? progressText(event.loaded, event.total, speed.rate) : "Storing";
      });
      request.addEventListener("load", () => {
        if (request.status === 201 || request.status === 202) resolve(JSON.parse(request.responseText).data);
        else reject(new Error(sentenceOf(request.responseText, request.status)));
      });
      request.addEventListener("error", () => reject(new Error("The connection broke. Nothing was stored; try again.")));
      request.addEventListener("abort", () => reject(new Error("cancelled")));
      request.open("POST", "/upload");
      request.setRequestHeader("accept", "application/json");
      request.send(data);
    });
  }

  succeed(data, tookMs) {
    this.finish("done");
    this.line.textContent = "";
    const image = data.images?.[0];
    const link = document.createElement("a");
    link.href = new URL(image ? image.url : data.url, location.href).pathname;
    link.textContent = image ? image.ref : "Arrived; it is listed as soon as the registry is back";
    this.line.append(link, ` · stored in ${durationText(tookMs / 1000)}`);
    announce(`${this.file.name} is stored.`);
  }

  fail(message) {
    this.finish("failed");
    this.line.textContent = message;
    this.retryButton.hidden = false;
    announce(`${this.file.name}: ${message}`);
  }

  finish(state) {
    this.row.classList.add(state);
    this.bar.hidden = true;
    this.cancelButton.hidden = true;
  }
}

function sentenceOf(text, status) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `The registry answered ${status}.`;
  }
}

function announce(text) {
  announcer.textContent = text;
}

function showStop() {
  stop.hidden = queue.length + (running ? 1 : 0) < 2;
}

async function startNext() {
  showStop();
  if (running || queue.length === 0) return;
  running = queue.shift();
  await running.run();
  running = null;
  startNext();
}

function add(files) {
  if (!form.reportValidity() || files.length === 0) return;
  const fields = {};
  for (const name of ["csrf_token", "collection", "name", "tag", "description"]) {
    fields[name] = form.elements[name].value.trim();
  }
  // One name cannot serve several files: the last would take the tag of all others.
  if (files.length > 1) fields.name = "";
  document.getElementById("transfers").hidden = false;
  for (const file of files) new Transfer(file, { ...fields }).enqueue();
}

function watchForm() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = [...input.files];
    add(chosen);
    input.value = "";
  });
  stop.addEventListener("click", () => {
    for (const one of [...queue]) one.cancel();
    running?.cancel();
  });
  window.addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault();
  });
}

function watchDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => document.body.classList.toggle("dropping", dragDepth > 0);
  document.getElementById("drop-hint").hidden = false;
  document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { dragDepth += 1; mark(); } });
  document.addEventListener("dragleave", (event) => { if (hasFiles(event)) { dragDepth -= 1; mark(); } });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    dragDepth = 0;
    mark();
    // The required file field is filled, so that the form counts as complete; its upload begins at once.
    input.files = event.dataTransfer.files;
    const dropped = [...event.dataTransfer.files];
    add(dropped);
    input.value = "";
  });
  drop.addEventListener("click", (event) => { if (event.target === drop) input.click(); });
}

watchForm();
watchDrops();
