/**
 * Command lines, judged against a table: `noun verb ARG... --option VALUE | --option=VALUE | --flag`.
 *
 * Options may stand anywhere. `--` ends them. A repeated option is an error unless it is declared as a list.
 */
import { parseSize } from "../codec/sizes.ts";
import { parseDuration } from "./quantities.ts";

export interface ArgSpec {
  /** As shown in usage lines: `NAME`. */
  readonly name: string;
  readonly what: string;
}

export interface OptionSpec {
  /** Without the dashes. */
  readonly name: string;
  readonly kind: "flag" | "text" | "size" | "duration" | "integer" | "list";
  /** As shown in usage lines: `S`. Not for flags. */
  readonly value?: string;
  readonly choices?: readonly string[];
  readonly required?: boolean;
  readonly what: string;
}

/** Sizes are bytes, durations milliseconds. */
export type OptionValue = boolean | string | number | readonly string[];

export interface ParsedArgs {
  readonly args: readonly string[];
  readonly options: ReadonlyMap<string, OptionValue>;
}

export type ArgsResult =
  | { readonly ok: true; readonly value: ParsedArgs }
  | { readonly ok: false; readonly text: string };

export function parseArgs(
  words: readonly string[],
  args: readonly ArgSpec[],
  options: readonly OptionSpec[],
): ArgsResult {
  const positional: string[] = [];
  const values = new Map<string, OptionValue>();
  const fault = (text: string): ArgsResult => ({ ok: false, text });
  let optionsEnded = false;

  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (optionsEnded || !word.startsWith("-") || word === "-") {
      positional.push(word);
      continue;
    }
    if (word === "--") {
      optionsEnded = true;
      continue;
    }
    const equals = word.indexOf("=");
    const typed = equals < 0 ? word : word.slice(0, equals);
    const spec = options.find((option) => `--${option.name}` === typed);
    if (spec === undefined) return fault(`unknown option ${typed}`);
    let given: string | null = equals < 0 ? null : word.slice(equals + 1);
    if (spec.kind === "flag") {
      if (given !== null) return fault(`${typed} takes no value`);
      values.set(spec.name, true);
      continue;
    }
    if (given === null) {
      given = words[++i] ?? null;
      if (given === null) return fault(`${typed} needs a value: ${typed} ${spec.value ?? "VALUE"}`);
    }
    const value = judge(spec, given);
    if (value === null) return fault(`${typed}: ${expectation(spec)}, not "${given.slice(0, 60)}"`);
    const former = values.get(spec.name);
    if (former !== undefined && spec.kind !== "list") return fault(`${typed} is given twice`);
    values.set(spec.name, spec.kind === "list" ? [...((former as readonly string[]) ?? []), given] : value);
  }

  if (positional.length > args.length) return fault(`unexpected argument "${positional[args.length]!.slice(0, 60)}"`);
  const missing = args[positional.length];
  if (missing !== undefined) return fault(`${missing.name} is missing: ${missing.what}`);
  const absent = options.find((option) => option.required && !values.has(option.name));
  if (absent !== undefined) {
    const form = absent.value === undefined ? `--${absent.name}` : `--${absent.name} ${absent.value}`;
    return fault(`${form} is missing: ${absent.what}`);
  }
  return { ok: true, value: { args: positional, options: values } };
}

function judge(spec: OptionSpec, text: string): OptionValue | null {
  if (spec.choices !== undefined) return spec.choices.includes(text) ? text : null;
  switch (spec.kind) {
    case "size":
      return parseSize(text);
    case "duration":
      return parseDuration(text);
    case "integer":
      return /^\d{1,9}$/.test(text) ? Number(text) : null;
    default:
      return text;
  }
}

function expectation(spec: OptionSpec): string {
  if (spec.choices !== undefined) return `must be one of ${spec.choices.join(", ")}`;
  switch (spec.kind) {
    case "size":
      return "must be a size like 10GiB, 512MiB, 1TB or bytes";
    case "duration":
      return "must be a time like 30s, 500ms or 2m";
    case "integer":
      return "must be a whole number";
    default:
      return "must be text";
  }
}

/** `NAME --size S [--group G]`. */
export function usageOf(args: readonly ArgSpec[], options: readonly OptionSpec[]): string {
  const words = args.map((arg) => arg.name);
  for (const option of options) {
    const text =
      option.kind === "flag" ? `--${option.name}` : `--${option.name} ${option.choices?.join("|") ?? option.value}`;
    words.push(option.required ? text : `[${text}]${option.kind === "list" ? "..." : ""}`);
  }
  return words.join(" ");
}
