// The end of what a run put out: text with the colours of a terminal, and a picture. Shared as base.js is.

const SEQUENCE = /\x1b\[([0-9;:]*)m/;
const NO_TEXT = /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-ln-~]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
const PICTURES = ["image/png", "image/jpeg", "image/svg+xml"]; // an svg in an img neither runs scripts nor loads anything

/** What a colour sequence changes: bold, italic, underline, inverse, and the colours. */
function penAfter(pen, sequence) {
  const numbers = sequence.split(/[;:]/).map(Number);
  let next = { ...pen };
  for (let i = 0; i < numbers.length; i++) {
    const n = numbers[i];
    if (n === 0) next = {};
    else if (n === 1) next.bold = true;
    else if (n === 2) next.faint = true;
    else if (n === 3) next.italic = true;
    else if (n === 4) next.underline = true;
    else if (n === 7) next.inverse = true;
    else if (n === 22) next.bold = next.faint = false;
    else if (n === 23) next.italic = false;
    else if (n === 24) next.underline = false;
    else if (n === 27) next.inverse = false;
    else if (n >= 30 && n <= 37) next.fore = `var(--nbt-ansi${n - 30})`;
    else if (n >= 90 && n <= 97) next.fore = `var(--nbt-ansi${n - 90})`;
    else if (n >= 40 && n <= 47) next.back = `var(--nbt-ansi${n - 40})`;
    else if (n >= 100 && n <= 107) next.back = `var(--nbt-ansi${n - 100})`;
    else if (n === 39) next.fore = "";
    else if (n === 49) next.back = "";
    else if (n === 38 || n === 48) {
      const isTrue = numbers[i + 1] === 2;
      const colour = isTrue ? rgb(numbers.slice(i + 2, i + 5)) : indexed(numbers[i + 2]);
      next[n === 38 ? "fore" : "back"] = colour;
      i += isTrue ? 4 : 2;
    }
  }
  return next;
}

function rgb(parts) {
  const [r, g, b] = [0, 1, 2].map((i) => Math.min(255, Math.max(0, Number(parts[i]) || 0)));
  return `rgb(${r}, ${g}, ${b})`;
}

/** One of the 256 colours of a terminal. */
function indexed(n) {
  if (!(n >= 0 && n <= 255)) return "";
  if (n < 16) return `var(--nbt-ansi${n % 8})`;
  if (n >= 232) return rgb(Array(3).fill(8 + 10 * (n - 232)));
  const level = (digit) => (digit ? 55 + 40 * digit : 0);
  return rgb([Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map(level));
}

/** Text and colours as elements; nothing of the text is ever read as markup. */
function coloured(text) {
  const pieces = document.createDocumentFragment();
  let pen = {};
  text.replace(NO_TEXT, "").split(SEQUENCE).forEach((piece, i) => {
    if (i % 2) {
      pen = penAfter(pen, piece);
    } else if (piece) {
      const span = make("span", pen.inverse ? "nbt-inverse" : "", pieces);
      if (pen.bold) span.style.fontWeight = "600";
      if (pen.faint) span.style.opacity = "0.75";
      if (pen.italic) span.style.fontStyle = "italic";
      if (pen.underline) span.style.textDecoration = "underline";
      // mixed with the colour of text, so that it can be read on a light ground and on a dark one
      if (pen.fore && !pen.back && !pen.inverse) span.style.color = `color-mix(in srgb, ${pen.fore} 56%, var(--nbt-text))`;
      else if (pen.back && !pen.inverse) {
        span.style.backgroundColor = `color-mix(in srgb, ${pen.back} 22%, var(--nbt-ground))`;
      }
      span.textContent = piece.replaceAll("\x1b", "");
    }
  });
  return pieces;
}

/** The last lines; the view stays at the end unless somebody scrolled up or selects. */
function makeTail(parent) {
  const root = make("div", "nbt-output", parent);
  const before = make("div", "nbt-dim nbt-before", root);
  const text = make("pre", "nbt-tail", root);
  const after = make("div", "nbt-dim nbt-after", root);
  text.tabIndex = 0; // what scrolls must be reached by keyboard
  text.setAttribute("role", "group"); // a region would be a landmark, of which a page has few
  root.hidden = true;
  let drawn = "";

  function isSelected() {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && text.contains(selection.anchorNode);
  }

  return {
    root,
    of(name) {
      text.setAttribute("aria-label", `The end of the output of ${name}`);
    },
    draw(tail) {
      const wanted = tail?.text || "";
      show(root, Boolean(wanted || tail?.note));
      say(before, tail?.before);
      show(before, Boolean(tail?.before));
      say(after, tail?.note);
      show(after, Boolean(tail?.note));
      show(text, Boolean(wanted));
      if (wanted === drawn || isSelected()) return;
      const isAtEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
      text.replaceChildren(coloured(wanted.replace(/\n+$/, "")));
      drawn = wanted;
      if (isAtEnd) text.scrollTop = text.scrollHeight;
    },
  };
}

/** The last picture, from bytes. */
function makePicture(parent) {
  const picture = make("img", "nbt-picture", parent);
  picture.hidden = true;
  let drawn = null;
  return {
    draw(told) {
      if (told === drawn) return;
      drawn = told;
      const isShown = Boolean(told?.data) && PICTURES.includes(told.mime);
      if (isShown) {
        const bytes = new Uint8Array(told.data.buffer, told.data.byteOffset, told.data.byteLength);
        let letters = "";
        for (let i = 0; i < bytes.length; i += 8192) letters += String.fromCharCode(...bytes.subarray(i, i + 8192));
        picture.src = `data:${told.mime};base64,${btoa(letters)}`;
        picture.alt = told.alt || "The last figure";
      }
      show(picture, isShown);
    },
  };
}
