"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);

  // Sorting: numbers by value, texts by letters; what is missing stays at the end in both directions.
  function sort(table, index, direction) {
    const body = table.tBodies[0];
    const key = function (row) {
      const cell = row.cells[index];
      const value = cell.getAttribute("data-value");
      if (value === null || value === "") {
        const text = cell.textContent.trim();
        return { missing: text === "–" || text === "", text: text };
      }
      return { missing: false, number: Number(value) };
    };
    const rows = Array.from(body.rows).map(function (row, place) { return { row: row, key: key(row), place: place }; });
    rows.sort(function (a, b) {
      if (a.key.missing !== b.key.missing) { return a.key.missing ? 1 : -1; }
      let order = 0;
      if (a.key.number !== undefined && b.key.number !== undefined) { order = a.key.number - b.key.number; }
      else { order = String(a.key.text).localeCompare(String(b.key.text)); }
      return direction * order || a.place - b.place;
    });
    rows.forEach(function (item) { body.appendChild(item.row); });
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, index) {
      head.querySelector("button").addEventListener("click", function () {
        const first = head.textContent.includes("↑") ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const next = head.getAttribute("aria-sort") === first ? second : first;
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", next);
        sort(table, index, next === "ascending" ? 1 : -1);
      });
    });
  });

  // One tooltip for everything that has something to say, by mouse, keyboard or touch.
  const tip = document.getElementById("tip");
  function show(event) {
    const source = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!source) { tip.hidden = true; return; }
    tip.textContent = source.getAttribute("data-tip");
    tip.hidden = false;
    const box = source.getBoundingClientRect();
    const width = tip.offsetWidth;
    const left = Math.max(4, Math.min(box.left + box.width / 2 - width / 2, document.documentElement.clientWidth - width - 4));
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = left + window.scrollX + "px";
    tip.style.top = (above > 0 ? above : box.bottom + 6) + window.scrollY + "px";
  }
  ["mouseover", "focusin", "click"].forEach(function (name) { document.addEventListener(name, show); });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { tip.hidden = true; } });

  // Method against method.
  function make(name, text, parent) {
    const element = document.createElement(name);
    if (text !== undefined) { element.textContent = text; }
    if (parent) { parent.appendChild(element); }
    return element;
  }
  function points(value) {
    if (value === null) { return "–"; }
    const text = (100 * value).toFixed(1);
    return text === "-0.0" || text === "0.0" ? "0.0" : value > 0 ? "+" + text : "−" + text.slice(1);
  }
  function shade(value, limit) {
    const share = Math.min(Math.abs(value) / limit, 1);
    const end = value < 0 ? [143, 59, 0] : [18, 63, 115];
    const mix = end.map(function (part) { return Math.round(255 + (part - 255) * share); });
    return { background: "rgb(" + mix.join(",") + ")", color: share > 0.5 ? "#fff" : "#1d2433" };
  }
  function differences(group, i, j, out) {
    const domains = group.domains[i];
    const columns = domains.map(function (name) { return group.domains[j].indexOf(name); });
    const table = group.matrices[i].map(function (row, r) {
      return row.map(function (value, c) {
        const other = columns[c] < 0 ? null : group.matrices[j][r][columns[c]];
        return value === null || other === null ? null : value - other;
      });
    });
    const limit = Math.max(0.005, ...table.flat().map(function (value) { return value === null ? 0 : Math.abs(value); }));
    const holder = make("div", undefined, out);
    holder.className = "scroll";
    const element = make("table", undefined, holder);
    element.className = "matrix";
    make("caption", group.labels[i] + " minus " + group.labels[j] + ", points", element);
    const head = make("tr", undefined, make("thead", undefined, element));
    make("td", "", head);
    domains.forEach(function (name) { make("th", name, head).scope = "col"; });
    const body = make("tbody", undefined, element);
    table.forEach(function (row, r) {
      const line = make("tr", undefined, body);
      make("th", group.rows[i][r], line).scope = "row";
      row.forEach(function (value, c) {
        const cell = make("td", points(value), line);
        if (value === null) { cell.className = "missing"; return; }
        cell.className = r === 0 ? "" : r <= c ? "unseen" : r === c + 1 ? "own" : "seen";
        Object.assign(cell.style, shade(value, limit));
      });
    });
  }
  function intervals(group, i, j, out) {
    const swapped = i > j;
    const found = group.pairs[swapped ? j + "-" + i : i + "-" + j];
    if (!found) { make("p", "Too many methods: see ctbench compare --against for intervals.", out); return; }
    const holder = make("div", undefined, out);
    holder.className = "scroll";
    const element = make("table", undefined, holder);
    make("caption", "Paired differences over shared runs, points", element);
    const head = make("tr", undefined, make("thead", undefined, element));
    ["metric", "difference", "interval", "n", ""].forEach(function (name) { make("th", name, head).scope = "col"; });
    const body = make("tbody", undefined, element);
    group.metrics.forEach(function (name, place) {
      let [mean, low, high] = found[place];
      if (swapped) {
        mean = mean === null ? null : -mean;
        [low, high] = [high === null ? null : -high, low === null ? null : -low];
      }
      const line = make("tr", undefined, body);
      make("th", name, line).scope = "row";
      make("td", points(mean), line);
      make("td", low === null ? "–" : "[" + points(low) + ", " + points(high) + "]", line);
      make("td", String(found[place][3]), line);
      const sign = low === null ? 0 : low > 0 ? 1 : high < 0 ? -1 : 0;
      const better = group.better[place] === "higher" ? sign : -sign;
      make("td", low === null ? "too few runs" : better > 0 ? "first better" : better < 0 ? "second better" : "tie", line);
    });
  }
  document.querySelectorAll("form.duel").forEach(function (form) {
    const group = data[form.getAttribute("data-group")];
    const out = form.nextElementSibling;
    function draw() {
      const i = Number(form.elements.first.value);
      const j = Number(form.elements.second.value);
      out.replaceChildren();
      if (i === j) { make("p", "Choose two methods.", out); return; }
      differences(group, i, j, make("div", undefined, out));
      intervals(group, i, j, make("div", undefined, out));
    }
    form.addEventListener("change", draw);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    draw();
  });
})();
