// A panel of which Python draws the picture.
import { makeFrame } from "./frame.js";
import { html } from "./shared.js";

function build(frame) {
  const { model } = frame;
  const image = html("img", {
    class: "outcome",
    style: "width: 100%; height: 100%; object-position: left top",
  });
  frame.stage.append(image);
  let url = "";

  function show() {
    URL.revokeObjectURL(url);
    const bytes = model.get("screen");
    if (!bytes?.byteLength) return;
    url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    image.src = url;
  }

  model.on("change:screen", show);
  show();
  return {
    resize() {},
    draw() {
      image.alt = frame.told().alt ?? "";
    },
    words: () => frame.told().alt ?? "",
    close() {
      model.off("change:screen", show);
      URL.revokeObjectURL(url);
    },
  };
}

export default { render: ({ model, el }) => makeFrame(model, el, build) };
