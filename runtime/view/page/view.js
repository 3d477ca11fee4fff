// The live view: asks the server for statuses and pictures, and shows nothing as present that is not.
import { drawLatency, drawProbabilities, lineStyle } from "./charts.js";

const TICK_MS = 100;
const CHART_MS = 200; // between two drawings of the charts
const SILENT_MS = 700; // without a status for so long, the page says that the connection is lost
const SLOW_MS = 500; // what a status may take on its way before its result no longer counts as present
const HUNG_MS = 4000; // then it connects anew
const RETRY_MS = 1000;
const PICTURE_MS = 1000; // a picture that stands longer is no live picture
const SPOKEN_MS = 1500; // a label is spoken when it has stood so long
const WINDOWS = [60, 120, 15]; // seconds
const NUMBER = 0;
const MOST_ROWS = 8; // labels that are seen without scrolling; of more, the strongest come first
const ORDER_MS = 1000; // between two orders of them
const LONG_LABEL = 26, TAIL = 9; // characters

// A result's states have the signs that videos have: disc, triangle, diamond, hour-glass, cross.
const ICONS = {
  OK: "M10 3a7 7 0 1 0 .01 0M10 8.7a1.3 1.3 0 1 0 .01 0", LATE: "M10 3L18 17H2z", DEGRADED: "M10 2l8 8l-8 8l-8-8z",
  STALE: "M4 3h12L4 17h12z", FAILED: "M4 4l12 12M16 4L4 16", DISCONNECTED: "M3 17L17 3M4.5 8a9 9 0 0 1 5-2M14 7.500a9 9 0 0 1 2 1.500M7.500 12a5 5 0 0 1 2-1.500",
  ENDED: "M5 5h10v10H5z",
};
const WAITING_ICON = "M4 10h.1M10 10h.1M16 10h.1";
const NAMES = { DISCONNECTED: "NO CONNECTION" };

const at = (id) => document.getElementById(id);
const write = (id, words) => { if (at(id).textContent !== words) at(id).textContent = words; };
const percent = (share) => (share >= 0.9995 ? "100%" : share >= 0.1 ? `${(share * 100).toFixed(0)}%` : `${(share * 100).toFixed(1)}%`);

let socket = null, about = null, status = null, statusAt = -Infinity, askedAt = 0, transit = 0, openedAt = 0;
let ended = false, refused = false, rows = [], seconds = WINDOWS[0];
let videoOn = true, pictureAsked = false, pictureAt = 0, decoding = 0;
let classRows = [], strengths = [], orderedAt = 0;
let spoken = { label: null, since: 0, said: null }, described = 0, drawnAt = 0;

// Connection

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = new WebSocket(`${scheme}://${location.host}/live`);
  mine.binaryType = "arraybuffer";
  socket = mine;
  openedAt = performance.now();
  pictureAsked = false;
  mine.onopen = () => { refused = false; askStatus(); askPicture(); };
  mine.onmessage = ({ data }) => { if (socket === mine) (typeof data === "string" ? told(JSON.parse(data)) : pictured(data)); };
  mine.onclose = () => { if (socket === mine) lost(); };
}

function lost() {
  socket = null;
  render();
  // A browser does not tell a page why a WebSocket was refused; a request does.
  fetch("healthz").then((answer) => { refused = answer.status === 401 || answer.status === 403; render(); }, () => {});
  setTimeout(connect, RETRY_MS);
}

function ask(letter) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(letter);
}

function askStatus() {
  askedAt = performance.now();
  ask("s");
}

function askPicture() {
  const wanted = videoOn && !document.hidden;
  if (wanted && !pictureAsked) ask("p");
  if (!wanted && pictureAsked) ask("-p");
  pictureAsked = wanted;
}

function told(message) {
  if (message.kind === "about") {
    begin(message);
    return;
  }
  statusAt = performance.now();
  transit = Math.max(0, statusAt - askedAt - message.waited_ms); // an upper bound: both ways
  status = message;
  ended = message.state === "ENDED";
  rows.push(...message.rows);
  const oldest = message.bucket - about.history_s / about.bucket_s;
  while (rows.length && rows[0][NUMBER] < oldest) rows.shift();
  message.events.forEach(addEvent);
  askStatus();
  render();
}

function begin(message) {
  about = message;
  rows = [];
  status = null;
  openedAt = performance.now(); // its first status follows at once
  at("events").replaceChildren();
  write("bundle", about.bundle);
  at("bundle").title = about.sha256;
  write("source", about.source);
  at("source").title = about.source;
  write("limit", about.limit_ms.toFixed(1));
  write("version", about.version);
  write("digest", about.sha256 ? `bundle ${about.sha256.slice(0, 12)}` : "");
  classRows = about.labels.map(classRow);
  strengths = about.labels.map(() => 0);
  orderedAt = 0;
  at("classes").replaceChildren(...classRows);
  at("classes").scrollTop = 0;
  at("classes").tabIndex = classRows.length > MOST_ROWS ? 0 : -1; // scrolled by keys too
  write("order", classRows.length > MOST_ROWS ? `${classRows.length} labels, the strongest first` : "");
}

// What stands now

function standing() {
  const now = performance.now();
  if (refused) return ["DISCONNECTED", "not admitted: open the address, token included, that gensoup run --view printed"];
  if (ended) return ["ENDED", status.reason];
  if (!socket || !status || now - statusAt > SILENT_MS) {
    if (!status && socket && now - openedAt < RETRY_MS) return ["CONNECTING", ""];
    return ["DISCONNECTED", "nothing from the server; trying again"];
  }
  const age = ageNow();
  if (status.current && about.mode === "realtime" && age > about.stale_after_ms + SLOW_MS) {
    return ["STALE", `the newest result is ${(age / 1e3).toFixed(1)} s old`];
  }
  return [status.state, status.reason];
}

const ageNow = () => (status?.age_ms ?? NaN) + transit + performance.now() - statusAt;

function render() {
  const [state, reason] = standing();
  const current = ["OK", "LATE", "DEGRADED"].includes(state) ? status.current : null;
  document.body.dataset.state = state;
  document.body.classList.toggle("old", !current && state !== "CONNECTING");
  const name = NAMES[state] ?? state;
  write("state-name", name);
  at("state-icon").setAttribute("d", ICONS[state] ?? WAITING_ICON);
  write("veil-state", name);
  write("veil-reason", reason);
  // The seconds in a reason would be spoken anew each time they change.
  const alarming = !current && state !== "CONNECTING" && state !== "WAITING";
  write("alert", alarming || state === "DEGRADED" ? `${name}: ${reason.replace(/ [\d.]+ s old$/, " old")}` : "");
  at("video").classList.toggle("delayed", videoOn && performance.now() - pictureAt > PICTURE_MS);
  renderLabel(current, name, reason);
  renderNumbers(state);
  renderCharts();
}

function renderLabel(current, name, reason) {
  let label = null, probability = 0, certain = true, detail = reason || "no result yet";
  if (current) {
    ({ label, probability } = current);
    detail = `${percent(probability)}, answered in ${current.result_ms.toFixed(1)} ms`;
    if (current.smoothed) {
      detail = `this frame: ${label} ${percent(probability)}, answered in ${current.result_ms.toFixed(1)} ms`;
      ({ label, probability } = current.smoothed);
      certain = label !== null;
    } else if (probability < (about.thresholds[label] ?? 0)) {
      detail = `this frame: ${label} ${detail}; under its threshold`;
      certain = false;
    }
    if (!certain) label = "uncertain";
  }
  if (current && name === "DEGRADED") detail += `; ${reason}`;
  const big = label === null ? "No current result" : certain ? label : `? ${label}`;
  write("label", big);
  at("label").classList.toggle("long", big.length > LONG_LABEL);
  write("detail", detail);
  write("caption-label", label === null ? "" : !certain ? big : `${label}  ${percent(probability)}`);
  write("caption-state", current ? `${name}  ${current.result_ms.toFixed(0)} ms  ·  frame ${status.frame}` : "");
  document.title = label === null ? `${name} – GenSoup` : `${label} – ${name} – GenSoup`;
  classRows.forEach((row, index) => {
    const share = current?.probabilities?.[index]; // none where another bundle answers than was described
    row.classList.toggle("won", current?.label === about.labels[index]);
    row.querySelector("i").style.transform = `scaleX(${share ?? 0})`;
    const words = share === undefined ? "–" : percent(share);
    if (row.lastChild.textContent !== words) row.lastChild.textContent = words;
    if (share !== undefined) strengths[index] += 0.2 * (share - strengths[index]);
  });
  order();
  speak(label);
}

// Of many labels the strongest come first, so that the one that is shown is among those that are seen.
function order() {
  if (classRows.length <= MOST_ROWS || performance.now() - orderedAt < ORDER_MS) return;
  orderedAt = performance.now();
  const rows = classRows.map((row, index) => index).sort((a, b) => strengths[b] - strengths[a]).map((index) => classRows[index]);
  if (rows.slice(0, MOST_ROWS).some((row, place) => at("classes").childNodes[place] !== row)) at("classes").append(...rows);
}

// A label that flickers is not read out, one that stands is, once.
function speak(label) {
  const now = performance.now();
  if (label !== spoken.label) Object.assign(spoken, { label, since: now });
  if (now - spoken.since < SPOKEN_MS || spoken.said === label) return;
  spoken.said = label;
  write("spoken", label === null ? "no current result" : label);
}

function renderNumbers(state) {
  const numbers = state === "DISCONNECTED" || !status ? {} : status.statistics;
  const show = (id, value, digits = 1) => write(id, value === null || value === undefined ? "–" : value.toFixed(digits));
  show("p50", numbers.p50_ms);
  show("p99", numbers.p99_ms);
  show("fps", ended ? null : numbers.fps);
  show("missed", numbers.missed === null || numbers.missed === undefined ? null : numbers.missed * 100);
  at("p99-tile").classList.toggle("over", numbers.p99_ms > about?.limit_ms);
  write("drops", status ? String(status.drops) : "–");
  if (status?.engine) write("engine", `${status.engine}, ${about.precision}`);
}

function renderCharts() {
  if (!about || !status || document.hidden || performance.now() - drawnAt < CHART_MS) return;
  drawnAt = performance.now();
  const view = { rows, now: status.bucket + (performance.now() - statusAt) / 1e3 / about.bucket_s, seconds, rowSeconds: about.bucket_s };
  drawProbabilities(at("probabilities"), view, about.labels);
  drawLatency(at("latency"), view, about.limit_ms);
  if (performance.now() - described < 5000) return;
  described = performance.now();
  const { p50_ms: p50, p99_ms: p99 } = status.statistics;
  at("latency").setAttribute("aria-label", p50 === null ? "Latency over time: no results" : `Latency over time: median ${p50.toFixed(1)}, 99 percent ${p99.toFixed(1)}, limit ${about.limit_ms.toFixed(1)} milliseconds`);
  at("probabilities").setAttribute("aria-label", `Probabilities over time: ${status.current ? `${status.current.label} now` : "no current result"}`);
}

// Pictures

async function pictured(data) {
  pictureAsked = false;
  const mine = (decoding += 1), frame = new DataView(data).getUint32(0);
  try {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4)], { type: "image/jpeg" }));
    const canvas = at("picture");
    if (mine === decoding && videoOn) {
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      canvas.dataset.frame = frame;
      pictureAt = performance.now();
      at("empty").hidden = true;
    }
    bitmap.close();
  } finally {
    askPicture(); // only now: a page that cannot keep up gets fewer
  }
}

function setVideo(on) {
  videoOn = on;
  at("video-button").setAttribute("aria-pressed", String(on));
  const canvas = at("picture");
  if (!on) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  write("empty", on ? "Waiting for the next picture" : "The video is off here; the stream goes on");
  at("empty").hidden = false;
  askPicture();
}

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else at("video").requestFullscreen?.().catch(() => {});
}

// Parts

function classRow(label, index) {
  const row = document.createElement("li"), style = lineStyle(index);
  row.innerHTML = '<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke-width="3"/></svg><span class="name"><span></span><span></span></span><span class="meter" aria-hidden="true"><i></i></span><span></span>';
  const stroke = row.querySelector("line");
  stroke.setAttribute("stroke", style.color);
  stroke.setAttribute("stroke-dasharray", style.dash.join(" "));
  const name = row.childNodes[1], signs = [...label], tail = signs.length > 2 * TAIL ? TAIL : 0;
  name.title = label;
  name.firstChild.textContent = signs.slice(0, signs.length - tail).join("");
  name.lastChild.textContent = signs.slice(signs.length - tail).join("");
  row.querySelector("i").style.background = style.color;
  if (about.thresholds[label] !== undefined) {
    const mark = document.createElement("u");
    mark.style.left = `${about.thresholds[label] * 100}%`;
    row.querySelector(".meter").append(mark);
  }
  return row;
}

function addEvent([, time, words]) {
  const entry = document.createElement("li"), when = document.createElement("time"), what = document.createElement("span");
  const date = new Date(time * 1e3);
  when.dateTime = date.toISOString();
  when.textContent = date.toLocaleTimeString([], { hour12: false });
  what.textContent = words;
  entry.append(when, what);
  at("events").prepend(entry);
  while (at("events").childElementCount > 50) at("events").lastChild.remove();
}

function nextWindow() {
  drawnAt = 0;
  seconds = WINDOWS[(WINDOWS.indexOf(seconds) + 1) % WINDOWS.length];
  showWindow();
  render();
}

function showWindow() {
  write("window", `${seconds} s`);
  document.querySelectorAll(".window-name").forEach((name) => { name.textContent = `last ${seconds} s`; });
}

at("video-button").onclick = () => setVideo(!videoOn);
at("full-button").onclick = toggleFull;
at("window-button").onclick = nextWindow;
document.onfullscreenchange = () => at("full-button").setAttribute("aria-pressed", String(!!document.fullscreenElement));
document.onkeydown = (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  ({ v: () => setVideo(!videoOn), f: toggleFull, w: nextWindow })[event.key.toLowerCase()]?.();
};
document.onvisibilitychange = () => { askPicture(); render(); };
setInterval(() => {
  const hung = socket;
  if (hung && performance.now() - Math.max(statusAt, openedAt) > HUNG_MS) {
    lost(); // first, for closing waits for the other side
    hung.close();
  }
  if (performance.now() - statusAt > TICK_MS) render();
}, TICK_MS);
showWindow();
connect();
