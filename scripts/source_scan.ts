/**
 * Reads a TypeScript source just well enough for the repository's own rules: without comments, and with or without the contents
 * of its strings. Line breaks stay, so positions keep their line numbers.
 */

export interface ScannedSource {
  /** Comments blanked; strings as they are. */
  readonly withStrings: string;
  /** Comments and the contents of strings, templates and regular expressions blanked. */
  readonly codeOnly: string;
}

/** A slash after one of these starts a regular expression, after anything else it divides. */
const beforeRegex = new Set("(,=:[!&|?{};+-*%<>~^\n".split(""));

export function scanSource(text: string): ScannedSource {
  const withStrings = text.split("");
  const codeOnly = text.split("");
  const blank = (target: string[], from: number, to: number) => {
    for (let i = from; i < to; i++) if (target[i] !== "\n") target[i] = " ";
  };
  const end = text.length;
  /** For each open `${`: how many braces inside it are open. */
  const templateBraces: number[] = [];
  let lastCode = "\n";
  let i = 0;

  const skipQuoted = (quote: string): void => {
    const start = i++;
    while (i < end && text[i] !== quote && text[i] !== "\n") i += text[i] === "\\" ? 2 : 1;
    i = Math.min(i + 1, end);
    blank(codeOnly, start + 1, i - 1);
    lastCode = quote;
  };
  const skipRegex = (): void => {
    const start = i++;
    let inClass = false;
    while (i < end && text[i] !== "\n" && (inClass || text[i] !== "/")) {
      if (text[i] === "[") inClass = true;
      else if (text[i] === "]") inClass = false;
      i += text[i] === "\\" ? 2 : 1;
    }
    i = Math.min(i + 1, end);
    blank(codeOnly, start + 1, i - 1);
    lastCode = "/";
  };
  const skipTemplateText = (): void => {
    const start = i;
    while (i < end && text[i] !== "`" && !(text[i] === "$" && text[i + 1] === "{")) i += text[i] === "\\" ? 2 : 1;
    i = Math.min(i, end);
    blank(codeOnly, start, i);
    if (text[i] === "$") {
      templateBraces.push(0);
      i += 2;
      lastCode = "{";
    } else {
      i++;
      lastCode = "`";
    }
  };

  while (i < end) {
    const here = text[i] as string;
    const next = text[i + 1];
    if (here === "/" && next === "/") {
      const start = i;
      while (i < end && text[i] !== "\n") i++;
      blank(withStrings, start, i);
      blank(codeOnly, start, i);
    } else if (here === "/" && next === "*") {
      const close = text.indexOf("*/", i + 2);
      const stop = close < 0 ? end : close + 2;
      blank(withStrings, i, stop);
      blank(codeOnly, i, stop);
      i = stop;
    } else if (here === '"' || here === "'") {
      skipQuoted(here);
    } else if (here === "`") {
      i++;
      skipTemplateText();
    } else if (here === "/" && beforeRegex.has(lastCode)) {
      skipRegex();
    } else if (here === "}" && templateBraces.at(-1) === 0) {
      templateBraces.pop();
      i++;
      skipTemplateText();
    } else {
      const depth = templateBraces.length - 1;
      if (depth >= 0 && here === "{") templateBraces[depth] = (templateBraces[depth] ?? 0) + 1;
      if (depth >= 0 && here === "}") templateBraces[depth] = (templateBraces[depth] ?? 0) - 1;
      if (here !== " " && here !== "\t" && here !== "\r") lastCode = here;
      i++;
    }
  }
  return { withStrings: withStrings.join(""), codeOnly: codeOnly.join("") };
}

export interface ImportPlace {
  readonly specifier: string;
  readonly line: number;
}

/** Every static and dynamic import and re-export, types included. */
export function importsOf(source: ScannedSource): ImportPlace[] {
  const places: ImportPlace[] = [];
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)(["'])([^"'\n]+)\1/g;
  for (const match of source.withStrings.matchAll(pattern)) {
    // The keyword must be code, not the inside of a string.
    if (source.codeOnly[match.index] !== source.withStrings[match.index]) continue;
    places.push({ specifier: match[2] as string, line: lineOf(source.withStrings, match.index) });
  }
  return places;
}

export function lineOf(text: string, index: number): number {
  let line = 1;
  for (let i = text.indexOf("\n"); i >= 0 && i < index; i = text.indexOf("\n", i + 1)) line++;
  return line;
}
