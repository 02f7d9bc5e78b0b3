// The grids of the ARC lab: training pairs, the test grid and what runs make of it; and painting.
import { ARC_COLORS, clamp, drawGrid, html, onDrag, placeIn, sized } from "./shared.js";

// `painted(task)` is called with a task after each cell that was painted.
export function makeGrids(painted) {
  const canvas = html("canvas", { role: "img", tabindex: -1 });
  const palette = html("span", { class: "cp-palette", role: "radiogroup", "aria-label": "colour to paint" });
  let [places, color, painting, shown, cursor] = [[], 2, false, null, [0, 0, 0]];
  ARC_COLORS.forEach((fill, number) => {
    const click = () => choose(number);
    const look = {
      type: "button",
      role: "radio",
      "aria-label": `colour ${number}`,
      style: `background:${fill}`,
      click,
    };
    palette.append(html("button", look));
  });
  palette.hidden = true;
  choose(color);

  function choose(number) {
    color = number;
    [...palette.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === number));
    });
  }

  // The grids of the task in their order, those that can be painted.
  const grids = () => [...shown.task.train.flat(), ...shown.task.test[0]].filter(Boolean);

  function paint(grid, row, column) {
    if (!grid?.[row] || grid[row][column] === undefined || grid[row][column] === color) return;
    grid[row][column] = color;
    draw(shown);
    const pairs = (all) => all.map(([input, output]) => (output ? { input, output } : { input }));
    painted({ train: pairs(shown.task.train), test: pairs(shown.task.test) });
  }

  onDrag(canvas, (event) => {
    if (!painting) return;
    const [x, y] = placeIn(canvas, event);
    for (const { grid, left, top, cell } of places) {
      const [row, column] = [Math.floor((y - top) / cell), Math.floor((x - left) / cell)];
      if (grids().includes(grid) && row >= 0 && column >= 0) paint(grid, row, column);
    }
  });
  canvas.addEventListener("keydown", (event) => {
    if (!painting) return;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const all = grids();
    if (moves[event.key]) {
      const [down, right] = moves[event.key];
      let [g, r, c] = [cursor[0], cursor[1] + down, cursor[2] + right];
      if (c >= all[g][0].length || c < 0) {
        g = (g + Math.sign(right) + all.length) % all.length;
        c = right > 0 ? 0 : all[g][0].length - 1;
      }
      cursor = [g, clamp(r, 0, all[g].length - 1), c];
      r = cursor[1];
    } else if (/^[0-9]$/.test(event.key)) {
      choose(Number(event.key));
      paint(all[cursor[0]], cursor[1], cursor[2]);
    } else return;
    event.preventDefault();
    draw(shown);
  });

  // `what`: {task, runs (with a prediction), width, height, size, colorOf(run)}.
  function draw(what) {
    shown = what;
    const { task, runs, width, height, size } = what;
    const pen = sized(canvas, width, height);
    pen.font = `${size}px system-ui, sans-serif`;
    places = [];
    const [input, target] = task.test[0];
    const test = [
      ["test input", input],
      ...runs.map((run) => [`${run.label}`, run.prediction, run]),
      ["target", target],
    ];
    const upper = row(
      pen,
      task.train.flatMap((pair, i) => [
        [`pair ${i + 1}`, pair[0]],
        ["", pair[1]],
      ]),
      0,
      height * 0.42,
      width,
    );
    row(pen, test, upper, height - upper, width, target);
    const wrong = runs.map((run) => `${run.label}: ${wrongCells(run.prediction, target)}`);
    canvas.setAttribute(
      "aria-label",
      `task ${task.id}, ${task.train.length} training pairs. ${wrong.join("; ") || "no prediction yet"}`,
    );
    if (painting) drawCursor(pen);
  }

  function row(pen, items, top, room, width, target = null) {
    const { size, colorOf } = shown;
    const gap = size * 0.8;
    const columns = items.reduce((sum, [, grid]) => sum + (grid?.[0].length ?? 3), 0);
    const rows = Math.max(...items.map(([, grid]) => grid?.length ?? 3));
    const most = Math.min((room - size * (target ? 2.6 : 1.5)) / rows, size * 1.6);
    let cell = Math.max(2, Math.min((width - gap * items.length) / columns, most));
    const wide = ([words, grid]) =>
      Math.max((grid?.[0].length ?? 3) * cell, pen.measureText(words).width) + gap;
    while (cell > 3 && items.reduce((sum, item) => sum + wide(item), 0) > width) cell -= 0.5;
    let left = 0;
    for (const item of items) {
      const [words, grid, run] = item;
      pen.fillStyle = run ? colorOf(run) : "#1a1a1a";
      pen.fillText(words, left, top + size * 0.95);
      const at = { grid, left, top: top + size * 1.25, cell };
      if (grid) drawGrid(pen, grid, left, at.top, cell, run && target ? target : null);
      else pen.fillText("?", left + cell, at.top + size * 1.2);
      if (run && grid) {
        const below = target ? wrongCells(grid, target) : "answer hidden";
        pen.fillText(below, left, at.top + grid.length * cell + size);
      }
      places.push(at);
      left += wide(item);
    }
    return size * 1.5 + rows * cell;
  }

  function drawCursor(pen) {
    const grid = grids()[cursor[0]];
    const at = places.find((place) => place.grid === grid);
    pen.strokeStyle = "#b3008a";
    pen.lineWidth = 3;
    pen.strokeRect(at.left + cursor[2] * at.cell, at.top + cursor[1] * at.cell, at.cell - 1, at.cell - 1);
  }

  return {
    canvas,
    palette,
    draw,
    get painting() {
      return painting;
    },
    paintMode(on) {
      painting = on;
      palette.hidden = !on;
      canvas.tabIndex = on ? 0 : -1;
      canvas.style.cursor = on ? "crosshair" : "";
      if (on) canvas.focus();
      if (shown) draw(shown);
    },
  };
}

function wrongCells(grid, target) {
  if (!target) return "answer hidden";
  const count = grid.flat().filter((color, i) => color !== target.flat()[i]).length;
  return count ? `${count} wrong` : "exact";
}
