// Asks for the state once a second and draws what has changed since. No library, and nothing from elsewhere.
"use strict";

const SHOWN = 120; // seconds in the charts
const history_ = []; // one entry a second: rates by key type, latencies
let before = null;

// A pass comes in the fragment, which no server sees, and stays in this tab.
if (location.hash.startsWith("#pass=")) {
  sessionStorage.setItem("pass", location.hash.slice(6));
  history.replaceState(null, "", location.pathname);
}

const byId = (id) => document.getElementById(id);
const say = (id, text) => { const at = byId(id); if (at.textContent !== text) at.textContent = text; };

function number(value) {
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toPrecision(2);
}

function time(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "–";
  if (seconds < 1e-3) return `${number(seconds * 1e6)} µs`;
  return seconds < 1 ? `${number(seconds * 1e3)} ms` : `${number(seconds)} s`;
}

const size = (bytes) => bytes < 1048576 ? `${number(bytes / 1024)} KiB` : `${number(bytes / 1048576)} MiB`;
const duration = (s) => s < 120 ? `${s} s` : s < 7200 ? `${Math.floor(s / 60)} min` : s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} days`;
const moment = (seconds) => seconds ? new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") : "none";

// Everything is text: labels come from other programs.
function rows(id, list) {
  const body = byId(id);
  body.replaceChildren(...list.map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const at = document.createElement("td");
      const { text, kind } = typeof cell === "object" ? cell : { text: cell, kind: typeof cell === "number" ? "number" : "" };
      at.textContent = typeof text === "number" ? number(text) : text;
      if (kind === "number") at.className = "number";
      else if (kind) { const badge = document.createElement("span"); badge.className = `badge ${kind}`; badge.textContent = text; at.replaceChildren(badge); }
      row.append(at);
    }
    return row;
  }));
}

// What was done with keys: searches and log-ins are not what people mean by operations.
const ofKeys = (operation) => operation.key_type !== "" && operation.operation !== "find";

function sums(state) {
  const byType = new Map();
  const buckets = new Array(state.bounds.length + 1).fill(0);
  let refused = 0, failed = 0;
  for (const partition of state.partitions) {
    for (const operation of partition.operations) {
      refused += operation.refused;
      failed += operation.failed;
      if (!ofKeys(operation)) continue;
      byType.set(operation.key_type, (byType.get(operation.key_type) ?? 0) + operation.success);
      operation.buckets.forEach((count, index) => { buckets[index] += count; });
    }
  }
  return { byType, buckets, refused, failed, bounds: state.bounds };
}

// The value below which this share lies, as far as the buckets tell: between two bounds it is drawn evenly.
function quantile(share, buckets, bounds) {
  const all = buckets.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let left = share * all;
  for (let index = 0; index < bounds.length; index++) {
    const count = buckets[index];
    if (left <= count) {
      const from = index ? bounds[index - 1] : 0;
      return from + (bounds[index] - from) * (count ? left / count : 0);
    }
    left -= count;
  }
  return bounds[bounds.length - 1];
}

function note(state) {
  const now = { uptime: state.uptime_seconds, ...sums(state) };
  const last = before;
  before = now;
  const passed = last ? now.uptime - last.uptime : 0;
  if (passed <= 0) return; // the first answer, or the daemon has been started anew
  const rates = new Map();
  for (const [type, count] of now.byType) rates.set(type, Math.max(0, count - (last.byType.get(type) ?? 0)) / passed);
  const buckets = now.buckets.map((count, index) => Math.max(0, count - last.buckets[index]));
  history_.push({
    rates,
    rate: [...rates.values()].reduce((sum, rate) => sum + rate, 0),
    median: quantile(0.5, buckets, now.bounds),
    p99: quantile(0.99, buckets, now.bounds),
  });
  while (history_.length > SHOWN) history_.shift();
}

const SVG = "http://www.w3.org/2000/svg";
function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A round number not below this one.
function above(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= value * 0.999);
}

function chart(id, lines, shown, least, summary) {
  const svg = byId(id);
  const [left, right, top, bottom] = [52, 592, 8, 178];
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const most = above(Math.max(...values, least));
  const y = (value) => bottom - (value / most) * (bottom - top);
  const x = (index) => right - (history_.length - 1 - index) * (right - left) / (SHOWN - 1);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(draw("line", { class: "grid", x1: left, x2: right, y1: y(share * most), y2: y(share * most) }));
    parts.push(draw("text", { x: left - 6, y: y(share * most) + 4, "text-anchor": "end" }, shown(share * most)));
  }
  parts.push(draw("text", { x: left, y: 195 }, `${SHOWN} s ago`));
  parts.push(draw("text", { x: right, y: 195, "text-anchor": "end" }, "now"));
  lines.forEach((line) => {
    let path = "", drawn = false;
    line.values.forEach((value, index) => {
      if (value === null) { drawn = false; return; }
      path += `${drawn ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      drawn = true;
    });
    parts.push(draw("path", { class: line.colour, d: path }));
  });
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", summary);
}

function legend(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => {
    const mark = document.createElement("span");
    mark.className = line.colour;
    mark.textContent = line.name;
    return mark;
  }));
}

function drawCharts() {
  const types = [...new Set(history_.flatMap((entry) => [...entry.rates.keys()].filter((type) => entry.rates.get(type) > 0)))].sort();
  const rates = types.map((type, index) => ({
    name: type, colour: `c${index % 6}`, values: history_.map((entry) => entry.rates.get(type) ?? 0),
  }));
  const latest = history_[history_.length - 1];
  legend("rate-legend", rates);
  chart("rate-chart", rates, number, 10, `Operations a second, now ${latest ? number(latest.rate) : "unknown"}`);
  const latencies = [
    { name: "median", colour: "c0", values: history_.map((entry) => entry.median) },
    { name: "99th percentile", colour: "c1", values: history_.map((entry) => entry.p99) },
  ];
  legend("latency-legend", latencies);
  chart("latency-chart", latencies, time, 1e-4, `Latency, median now ${latest ? time(latest.median) : "unknown"}`);
}

function cluster(of) {
  const others = of.members.filter((member) => member !== of.node);
  const etcd = of.majority ? "a majority of etcd answers" : `no majority of etcd answers: nothing can be changed, keys are used for ${duration(of.lease_left_seconds)} more`;
  const behind = of.lag ? `, ${number(of.lag)} changes not here yet` : "";
  return `cluster ${of.name.slice(0, 8)}: this node ${of.node}, others ${others.join(", ") || "none"}; revision ${of.revision}${behind}; ${etcd}`;
}

function show(state) {
  const damaged = state.partitions.filter((partition) => partition.state !== "sound");
  const wrong = state.node !== "open" ? state.node : damaged.length ? `${damaged.length} of ${state.partitions.length} partitions not in use` : state.store_failing ? "the store cannot be written" : state.audit_failing ? "the audit log cannot be written" : state.cluster && !state.cluster.majority ? "no majority of etcd answers" : "";
  say("health", wrong || "running");
  byId("health").className = `badge ${wrong ? "bad" : "good"}`;
  say("node", `strongroomd ${state.version} (${state.crypto_module}), up ${duration(Math.floor(state.uptime_seconds))}; keys in ${state.memory}, ${number(state.memory_bytes / 1048576)} MiB`);
  say("cluster", state.cluster ? cluster(state.cluster) : "");
  const latest = history_[history_.length - 1];
  if (latest) {
    say("rate", number(latest.rate));
    say("median", time(latest.median));
    say("p99", time(latest.p99));
  }
  say("errors", `${number(before.refused)} · ${number(before.failed)}`);
  say("waiting", number(state.queue.reduce((sum, one) => sum + one.signatures, 0)));
  say("clients", number(state.connections));
  byId("clients").title = `${number(state.channels)} of them ask through shared memory`;
  rows("partitions", state.partitions.map((p) => [
    p.label, { text: p.state, kind: p.state === "sound" ? "good" : "bad" }, p.objects, p.keys_held, { text: p.keys_held ? size(p.memory_bytes / p.keys_held) : "–", kind: "number" }, p.users, p.locked_users, p.wrong_passwords, moment(p.last_backup),
  ]));
  rows("operations", state.partitions.flatMap((p) => p.operations.map((o) => [
    p.label, o.operation, o.key_type, o.success, o.refused, o.failed, { text: o.success ? time(o.seconds / o.success) : "–", kind: "number" },
  ])));
  const keys = state.partitions.filter((p) => p.keys).flatMap((p) => p.keys.map((k) => [p.label, k.label, k.key_type, k.class, k.id, moment(k.created)]));
  byId("keys-table").hidden = !state.has_pass;
  byId("no-keys").hidden = state.has_pass;
  rows("keys", keys);
  byId("audit-section").hidden = !state.audit;
  if (state.audit) rows("audit", state.audit.map((entry) => [entry.time.slice(0, 19).replace("T", " "), entry.partition, entry.who, entry.what, { text: entry.outcome, kind: entry.outcome === "success" ? "good" : entry.outcome === "begun" ? "" : "bad" }]));
  byId("engines").replaceChildren(...state.engines.map((line) => { const item = document.createElement("li"); item.textContent = line; return item; }));
  drawCharts();
}

async function ask() {
  try {
    const pass = sessionStorage.getItem("pass");
    const answer = await fetch("state.json", { headers: pass ? { Authorization: `Bearer ${pass}` } : {}, signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const state = await answer.json();
    note(state);
    show(state);
  } catch {
    say("health", "no answer from strongroomd");
    byId("health").className = "badge bad";
  }
  setTimeout(ask, 1000);
}

ask();
