// What a widget's model is to a panel, on a saved page without a kernel.
export function showSaved(panel, css, state) {
  const el = document.querySelector(".saved-panel:empty");
  for (const [name, value] of Object.entries(state)) {
    if (value?.base64 !== undefined) {
      const bytes = Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0));
      state[name] = new DataView(bytes.buffer);
    }
  }
  const model = {
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
    },
    on: () => {},
    off: () => {},
    save_changes: () => {},
    send: () => {},
  };
  const look = document.createElement("style");
  look.textContent = css;
  document.head.append(look);
  panel.render({ model, el });
}
