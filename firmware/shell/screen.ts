/** Tables, colour and bars for a terminal; plain text where there is none. */

export interface Style {
  readonly colour: boolean;
}

export type Tone = "good" | "warn" | "bad" | "dim" | "bold";

const codes: Readonly<Record<Tone, string>> = { good: "32", warn: "33", bad: "31", dim: "2", bold: "1" };
const csi = "\u001b[";

export function tone(style: Style, kind: Tone, text: string): string {
  return style.colour && text !== "" ? `${csi}${codes[kind]}m${text}${csi}0m` : text;
}

/** What a terminal shows of it: without colour codes. */
function shownWidth(text: string): number {
  let width = 0;
  for (let i = 0; i < text.length; i++) {
    if (text.startsWith(csi, i)) i = text.indexOf("m", i);
    else width++;
  }
  return width;
}

/** Columns as wide as their widest cell, two spaces apart. Columns whose header ends in `>` are right-aligned. */
export function table(style: Style, headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = headers.map((header) => header.endsWith(">"));
  const titles = headers.map((header) => tone(style, "dim", header.replace(/>$/, "")));
  const lines = [titles, ...rows];
  const widths = titles.map((_, column) => Math.max(...lines.map((line) => shownWidth(line[column] ?? ""))));
  return lines
    .map((line) =>
      line
        .map((cell, column) => {
          const padding = " ".repeat(Math.max(0, widths[column]! - shownWidth(cell)));
          return right[column] ? padding + cell : cell + padding;
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** Names and values, the values in one column. */
export function pairs(style: Style, rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${tone(style, "dim", name.padEnd(width))}  ${value}`.trimEnd()).join("\n");
}

/** `[=====>    ] 52 %`; without a total, only what is done. */
export function bar(doneBytes: number, totalBytes: number | null, width: number): string {
  if (totalBytes === null || totalBytes <= 0) return "[working]";
  const share = Math.min(1, Math.max(0, doneBytes / totalBytes));
  const filled = Math.round(share * width);
  return `[${"=".repeat(filled)}${" ".repeat(width - filled)}] ${Math.floor(share * 100)} %`;
}

/** Text that may quote a host or a peer: nothing in it may steer the terminal. */
export function printable(text: string): string {
  let clean = "";
  for (const character of text) {
    const point = character.codePointAt(0)!;
    clean += point < 0x20 || (point >= 0x7f && point < 0xa0) ? "?" : character;
  }
  return clean;
}
