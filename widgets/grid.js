// The page's half of Grid: draws the rows in sight and asks for those it lacks.
// Every value is written with textContent; nothing from the data is ever parsed as HTML.

const ROW = 25; // pixels; --wb-row in grid.css
const PAGE = 100; // rows of a request
const UNKNOWN = "—";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const cents = new Intl.NumberFormat("en-US", {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});

function number(value, column) {
  if (value === "inf") return "∞";
  if (value === "-inf") return "−∞";
  const size = Math.abs(value);
  let text;
  if (column.unit === "USD") text = size >= 10 ? cents.format(value) : precise.format(value);
  else if (column.unit === "0..1") text = (value * 100).toFixed(1) + " %";
  else if (Number.isInteger(value) || size >= 1000) text = whole.format(value);
  else text = precise.format(value);
  return text.replace("-", "−");
}

function isNumeric(column) {
  return column.type === "int" || column.type === "float";
}

function text(value, column) {
  if (value === null || value === undefined) return UNKNOWN;
  if (column.type === "bool") {
    const [yes, no] = column.name === "passed" ? ["right", "wrong"] : ["yes", "no"];
    return value ? yes : no;
  }
  if (column.type === "time") return String(value).slice(0, 19).replace("T", " ");
  return isNumeric(column) ? number(value, column) : String(value);
}

// Pixels that a column needs for its title on two lines and for the rows that came with the table.
function width(column, rows) {
  if (column.low) return 168;
  const words = column.title.split(" ").map((word) => word.length + 2);
  const lengths = rows.map((row) => text(row[column.name], column).length);
  const needed = Math.max(column.title.length / 2 + 3, ...words, ...lengths);
  const letter = isNumeric(column) ? 8.4 : 6.9;
  return Math.round(Math.max(58, Math.min(250, needed * letter + 18)));
}

function element(tag, name, ...children) {
  const node = document.createElement(tag);
  node.className = name;
  node.append(...children);
  return node;
}

function cell(row, column) {
  const value = row[column.name];
  const node = element("div", "wb-grid-cell");
  node.setAttribute("role", "gridcell");
  const shown = text(value, column);
  node.textContent = shown;
  if (shown === UNKNOWN && value == null) node.classList.add("wb-unknown");
  if (isNumeric(column)) node.classList.add("wb-number");
  else node.title = shown;
  if (column.name === "passed" && value != null) {
    node.classList.add(value ? "wb-right" : "wb-wrong");
  }
  if (column.low && row[column.low] != null && row[column.high] != null) {
    const ends = element("span", "wb-grid-ends");
    const [low, high] = [row[column.low], row[column.high]].map((end) => number(end, column));
    ends.textContent = `${low} – ${high}`.replace(" % –", " –");
    node.append(ends);
  }
  return node;
}

function render({ model, el }) {
  const root = element("div", "wb-grid");
  const caption = element("div", "wb-grid-caption");
  const frame = element("div", "wb-grid-frame");
  const head = element("div", "wb-grid-row wb-grid-head");
  const body = element("div", "wb-grid-body");
  frame.tabIndex = 0;
  frame.setAttribute("role", "grid");
  frame.append(head, body);
  root.append(caption, frame);
  el.append(root);

  let rows = new Map(); // index → row
  let requestedPages = new Set(); // pages on their way
  let active = -1;
  let queued = false;

  const columns = () => model.get("columns");
  const keyOf = (row) => String(row[model.get("key")]);
  const reachable = () => Math.min(model.get("n_rows"), model.get("reach"));

  function drawHead() {
    const widths = columns().map((column) => width(column, model.get("head")));
    const fractions = widths.map((w, i) => (i ? `${w}fr` : `${w * 1.15}fr`));
    root.style.setProperty("--wb-columns", fractions.join(" "));
    root.style.setProperty("--wb-width", `${widths.reduce((sum, w) => sum + w, 0)}px`);
    head.replaceChildren(
      ...columns().map((column) => {
        const sorted = model.get("sort") === column.name;
        const direction = model.get("descending") ? "descending" : "ascending";
        const button = element("button", "wb-grid-cell" + (isNumeric(column) ? " wb-number" : ""));
        button.type = "button";
        button.textContent = column.title + (sorted ? (model.get("descending") ? " ↓" : " ↑") : "");
        button.title = column.doc;
        button.setAttribute("aria-sort", sorted ? direction : "none");
        button.addEventListener("click", () => {
          const descending = sorted ? !model.get("descending") : isNumeric(column);
          model.set({ sort: column.name, descending });
          model.save_changes();
        });
        return button;
      }),
    );
  }

  function ask(index) {
    const start = Math.floor(index / PAGE) * PAGE;
    if (requestedPages.has(start)) return;
    requestedPages.add(start);
    model.send({ verb: "rows", start, limit: PAGE, version: model.get("version") });
  }

  function draw() {
    queued = false;
    const total = reachable();
    body.style.height = `${total * ROW}px`;
    frame.setAttribute("aria-rowcount", String(model.get("n_rows")));
    if (total === 0) {
      const none = element("div", "wb-grid-empty");
      none.textContent = "no rows";
      body.replaceChildren(none);
      body.style.height = "auto";
      return;
    }
    const first = Math.max(0, Math.floor(frame.scrollTop / ROW) - 4);
    const last = Math.min(total, Math.ceil((frame.scrollTop + frame.clientHeight) / ROW) + 4);
    const picked = new Set(model.get("picked"));
    const lines = [];
    for (let index = first; index < last; index++) {
      const row = rows.get(index);
      if (!row) ask(index);
      const line = element("div", "wb-grid-row" + (index === active ? " wb-active" : ""));
      line.setAttribute("role", "row");
      line.setAttribute("aria-rowindex", String(index + 1));
      line.style.top = `${index * ROW}px`;
      if (row) {
        line.append(...columns().map((column) => cell(row, column)));
        line.setAttribute("aria-selected", String(picked.has(keyOf(row))));
        line.addEventListener("click", (event) => {
          pick(index, event.ctrlKey || event.metaKey || event.shiftKey);
        });
      }
      lines.push(line);
    }
    body.replaceChildren(...lines);
  }

  function redraw() {
    if (!queued) {
      queued = true;
      requestAnimationFrame(draw);
    }
  }

  function pick(index, add) {
    const row = rows.get(index);
    if (!row || !model.get("key")) return;
    active = index;
    const key = keyOf(row);
    const old = model.get("picked");
    let picked;
    if (old.includes(key)) picked = add || old.length === 1 ? old.filter((k) => k !== key) : [key];
    else picked = add && model.get("several") ? [...old, key] : [key];
    model.set("picked", picked);
    model.save_changes();
  }

  function reset() {
    rows = new Map(model.get("head").map((row, index) => [index, row]));
    requestedPages = new Set();
    active = -1;
    const n = model.get("n_rows");
    const reach = whole.format(model.get("reach"));
    const beyond =
      n > model.get("reach")
        ? ` · the first ${reach} of ${whole.format(n)} rows can be scrolled to`
        : "";
    caption.textContent = model.get("caption") + beyond;
    caption.hidden = !caption.textContent;
    frame.style.maxHeight = `${(model.get("lines") + 1.3) * ROW}px`;
    body.classList.toggle("wb-picks", Boolean(model.get("key")));
    frame.scrollTop = 0;
    drawHead();
    draw();
  }

  function receive(message) {
    if (message.verb !== "rows" || message.version !== model.get("version")) return;
    message.rows.forEach((row, offset) => rows.set(message.start + offset, row));
    redraw();
  }

  frame.addEventListener("scroll", redraw);
  frame.addEventListener("keydown", (event) => {
    const page = model.get("lines");
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const step = steps[event.key];
    if (step) {
      active = Math.max(0, Math.min(reachable() - 1, active + step));
      const top = active * ROW;
      const view = frame.clientHeight - head.offsetHeight - ROW;
      if (top < frame.scrollTop) frame.scrollTop = top;
      else if (top > frame.scrollTop + view) frame.scrollTop = top - view;
      redraw();
    } else if (event.key === "Enter" && event.target === frame) {
      pick(active, event.ctrlKey || event.shiftKey);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:version", reset);
  model.on("change:columns", reset);
  model.on("change:picked", redraw);
  model.on("msg:custom", receive);
  const resized = new ResizeObserver(redraw);
  resized.observe(frame);
  reset();

  return () => {
    resized.disconnect();
    model.off("change:version", reset);
    model.off("change:columns", reset);
    model.off("change:picked", redraw);
    model.off("msg:custom", receive);
  };
}

export default { render };
