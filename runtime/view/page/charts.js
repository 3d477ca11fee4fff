// Two charts on canvases, drawn by hand: probabilities over time, and latency against its limit.
// A row is what the server sends for a tenth of a second: [number, results, age_ms, state, drops, probabilities].

const NUMBER = 0, AGE = 2, STATE = 3, DROPS = 4, PROBABILITIES = 5;
const SOFT = "#a9b7c6", GRID = "#26313e", INK = "#eef3f8";
const FONT = '12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const BREAK_ROWS = 4; // a line does not run across a longer hole: nothing was known there
const MOST_LINES = 6;
export const STATE_COLORS = { OK: "#2fc39a", LATE: "#e69f00", DEGRADED: "#56b4e9", STALE: "#dd8fbb", FAILED: "#ff7a45" };
// How high the strip of states stands: it is read without colours too.
const STATE_HEIGHTS = { OK: 2, LATE: 5, DEGRADED: 8, STALE: 11, FAILED: 11 };
// Okabe and Ito's colours, lightened where a dark ground asks for it; beyond them the dashes tell labels apart.
const COLORS = ["#56b4e9", "#e69f00", "#2fc39a", "#f0e442", "#dd8fbb", "#ff7a45", "#8fa8ff", "#eef3f8"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

export const lineStyle = (index) => ({
  color: COLORS[index % COLORS.length],
  dash: DASHES[(index + Math.floor(index / COLORS.length)) % DASHES.length],
});

// A canvas at the screen's own resolution, cleared; null while it has no size.
function prepared(canvas) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const ink = canvas.getContext("2d");
  ink.setTransform(scale, 0, 0, scale, 0, 0);
  ink.clearRect(0, 0, width, height);
  ink.font = FONT;
  ink.textBaseline = "middle";
  return { ink, width, height };
}

function line(ink, x0, y0, x1, y1, color, dash = [], width = 1) {
  ink.strokeStyle = color;
  ink.lineWidth = width;
  ink.setLineDash(dash);
  ink.beginPath();
  ink.moveTo(x0, y0);
  ink.lineTo(x1, y1);
  ink.stroke();
  ink.setLineDash([]);
}

function text(ink, words, x, y, color = SOFT, align = "left") {
  ink.fillStyle = color;
  ink.textAlign = align;
  ink.fillText(words, x, y);
}

// Seconds ago along the foot of the box.
function timeAxis(ink, box, seconds) {
  const step = seconds > 60 ? 30 : seconds > 20 ? 15 : 5;
  for (let ago = 0; ago <= seconds; ago += step) {
    const x = box.right - (ago / seconds) * (box.right - box.left);
    line(ink, x, box.top, x, box.bottom, GRID);
    text(ink, ago ? `−${ago} s` : "now", x, box.foot, SOFT, ago === seconds ? "left" : ago ? "center" : "right");
  }
}

// view: { rows, now (row number of this moment, with fraction), seconds, rowSeconds }
function shown(view) {
  const first = view.now - view.seconds / view.rowSeconds - 1;
  return view.rows.filter((row) => row[NUMBER] >= first);
}

const xOf = (view, box) => (row) =>
  box.right - ((view.now - row[NUMBER] - 0.5) * view.rowSeconds / view.seconds) * (box.right - box.left);

function curve(ink, rows, x, y, style) {
  ink.strokeStyle = ink.fillStyle = style.color;
  ink.lineWidth = 2;
  ink.lineJoin = "round";
  ink.setLineDash(style.dash);
  ink.beginPath();
  let last = null, alone = null;
  const dots = [];
  for (const row of rows) {
    if (y(row) === null) continue;
    if (last !== null && row[NUMBER] - last <= BREAK_ROWS) {
      ink.lineTo(x(row), y(row));
      alone = null;
    } else {
      if (alone) dots.push(alone);
      ink.moveTo(x(row), y(row));
      alone = row;
    }
    last = row[NUMBER];
  }
  ink.stroke();
  ink.setLineDash([]);
  for (const row of alone ? [...dots, alone] : dots) {
    ink.beginPath();
    ink.arc(x(row), y(row), 1.6, 0, 7);
    ink.fill();
  }
}

export function drawProbabilities(canvas, view, labels) {
  const sheet = prepared(canvas);
  if (!sheet) return;
  const { ink, width, height } = sheet;
  const margin = width > 700 ? 176 : width > 460 ? 112 : 8;
  const box = { left: 40, right: width - margin, top: 8, bottom: height - 36, foot: height - 8 };
  timeAxis(ink, box, view.seconds);
  for (const share of [0, 0.5, 1]) {
    const y = box.bottom - share * (box.bottom - box.top);
    line(ink, box.left, y, box.right, y, GRID);
    text(ink, `${share * 100}%`, box.left - 6, y, SOFT, "right");
  }
  const rows = shown(view), x = xOf(view, box);
  const peaks = labels.map((_, index) => Math.max(0, ...rows.map((row) => row[PROBABILITIES]?.[index] ?? 0)));
  const chosen = labels.map((_, index) => index).sort((a, b) => peaks[b] - peaks[a]).slice(0, MOST_LINES);
  ink.save();
  ink.beginPath();
  ink.rect(box.left, 0, box.right - box.left, height);
  ink.clip();
  for (const index of [...chosen].reverse()) {
    const y = (row) => row[PROBABILITIES] && box.bottom - row[PROBABILITIES][index] * (box.bottom - box.top);
    curve(ink, rows, x, y, lineStyle(index));
  }
  const slot = (view.rowSeconds / view.seconds) * (box.right - box.left);
  for (const row of rows) {
    const tall = STATE_HEIGHTS[row[STATE]] ?? 5;
    ink.fillStyle = STATE_COLORS[row[STATE]] ?? SOFT;
    ink.fillRect(x(row) - slot / 2, box.bottom + 14 - tall, slot + 0.5, tall);
  }
  ink.restore();
  const last = rows[rows.length - 1];
  if (margin > 8 && last?.[PROBABILITIES] && view.now - last[NUMBER] <= BREAK_ROWS + 2) {
    names(ink, chosen, labels, last[PROBABILITIES], box, width);
  }
}

// The labels at the ends of their lines, pushed apart where they would overlap.
function names(ink, chosen, labels, probabilities, box, width) {
  const gap = 15;
  const places = chosen
    .map((index) => ({ index, y: box.bottom - probabilities[index] * (box.bottom - box.top) }))
    .sort((a, b) => a.y - b.y || a.index - b.index);
  for (let at = 1; at < places.length; at += 1) places[at].y = Math.max(places[at].y, places[at - 1].y + gap);
  let floor = box.bottom + 4;
  for (let at = places.length - 1; at >= 0; at -= 1) {
    places[at].y = Math.min(places[at].y, floor);
    floor = places[at].y - gap;
  }
  for (const { index, y } of places) text(ink, fitted(ink, labels[index], width - box.right - 10), box.right + 8, y, lineStyle(index).color);
}

// Cut in its middle: labels often differ in their ends alone.
function fitted(ink, words, width) {
  const signs = [...words];
  let cut = words;
  for (let kept = signs.length - 1; kept > 0 && ink.measureText(cut).width > width; kept -= 1) {
    const tail = Math.floor(kept / 2);
    cut = `${signs.slice(0, kept - tail).join("")}…${signs.slice(signs.length - tail).join("")}`;
  }
  return cut;
}

export function drawLatency(canvas, view, limit) {
  const sheet = prepared(canvas);
  if (!sheet) return;
  const { ink, width, height } = sheet;
  const box = { left: 40, right: width - 8, top: 12, bottom: height - 36, foot: height - 8 };
  const rows = shown(view), x = xOf(view, box);
  const worst = Math.max(0, ...rows.map((row) => row[AGE]));
  const top = roundUp(worst > 2 * limit ? 4 * limit : 2 * limit);
  const yOf = (age) => box.bottom - (Math.min(age, top) / top) * (box.bottom - box.top);
  timeAxis(ink, box, view.seconds);
  for (const age of [0, top / 2, top]) {
    line(ink, box.left, yOf(age), box.right, yOf(age), GRID);
    text(ink, String(+age.toPrecision(3)), box.left - 6, yOf(age), SOFT, "right");
  }
  ink.save();
  ink.beginPath();
  ink.rect(box.left, 0, box.right - box.left, height);
  ink.clip();
  const slot = (view.rowSeconds / view.seconds) * (box.right - box.left);
  for (const row of rows) {
    if (row[AGE]) {
      const over = row[AGE] > limit, y = yOf(row[AGE]);
      ink.fillStyle = over ? STATE_COLORS.LATE : SOFT;
      ink.fillRect(x(row) - slot / 2, y, Math.max(1, slot - (slot > 3 ? 1 : 0)), box.bottom - y);
      if (row[AGE] > top) triangle(ink, x(row), box.top - 9, STATE_COLORS.LATE); // beyond the scale
    }
    if (row[DROPS]) triangle(ink, x(row), box.bottom + 5, STATE_COLORS.FAILED);
  }
  ink.restore();
  line(ink, box.left, yOf(limit), box.right, yOf(limit), INK, [6, 4], 1.5);
  const words = `limit ${limit.toFixed(1)} ms`;
  ink.fillStyle = "rgb(18 25 34 / 85%)";
  ink.fillRect(box.left + 4, yOf(limit) - 19, ink.measureText(words).width + 8, 16);
  text(ink, words, box.left + 8, yOf(limit) - 10, INK);
  if (rows.some((row) => row[DROPS])) text(ink, "▲ drops", box.left + 4, box.bottom + 11, STATE_COLORS.FAILED);
}

// The next number that is good on an axis and in half.
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].find((digit) => digit * unit >= value) * unit;
}

function triangle(ink, x, y, color) {
  ink.fillStyle = color;
  ink.beginPath();
  ink.moveTo(x, y);
  ink.lineTo(x + 4, y + 7);
  ink.lineTo(x - 4, y + 7);
  ink.fill();
}
