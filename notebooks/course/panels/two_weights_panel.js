// A picture that reports where a hand presses or drags it, in shares of its width and height.
const PATIENCE = 300; // ms to wait for the next picture before reporting again

function render({ model, el }) {
  const image = document.createElement("img");
  image.alt = "The loss landscape. Press or drag to move the start.";
  image.draggable = false;
  Object.assign(image.style, { width: "100%", cursor: "crosshair", touchAction: "none" });
  el.appendChild(image);

  // While a picture is on its way only the newest place is kept: the picture follows the hand,
  // and does not trail through every place that the hand has been.
  let newest = null;
  let reported = 0;
  let url = "";

  function report() {
    if (newest === null || performance.now() - reported < PATIENCE) return;
    reported = performance.now();
    model.set("spot", newest);
    model.save_changes();
    newest = null;
    setTimeout(report, PATIENCE);
  }

  function point(event) {
    const box = image.getBoundingClientRect();
    newest = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    report();
  }

  function show() {
    URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    image.src = url;
    reported = 0;
    report();
  }

  image.addEventListener("pointerdown", (event) => {
    image.setPointerCapture(event.pointerId);
    point(event);
  });
  image.addEventListener("pointermove", (event) => {
    if (image.hasPointerCapture(event.pointerId)) point(event);
  });
  model.on("change:value", show);
  show();
  return () => {
    model.off("change:value", show);
    URL.revokeObjectURL(url);
  };
}

export default { render };
