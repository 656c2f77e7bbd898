/**
 * What a command is: a row of the table that `run.ts` looks up. Commands talk to an appliance through `ask` alone and return what
 * to print, so each is tested without a terminal or a socket.
 */
import type { ArgSpec, OptionSpec, ParsedArgs } from "./args.ts";
import { parseArgs } from "./args.ts";
import type { UpdateTools } from "./commands_update.ts";
import type { Style } from "./screen.ts";

export interface Command {
  readonly noun: string;
  /** null: the noun alone is the command. */
  readonly verb: string | null;
  readonly summary: string;
  /** Paragraphs for `--help`, after the usage line. */
  readonly details?: string;
  readonly args: readonly ArgSpec[];
  readonly options: readonly OptionSpec[];
  /** Blocks until done; `ask` waits as long as it takes, and a progress bar is shown on a terminal. */
  readonly long?: boolean;
  readonly run: (context: Context, given: Given) => Promise<Outcome>;
}

export type Outcome =
  | { readonly kind: "done"; readonly json: unknown; readonly text: string }
  /** Done, and the answer is bad news (a verify that found a difference): printed, exit 1. */
  | { readonly kind: "unequal"; readonly json: unknown; readonly text: string }
  | { readonly kind: "refused"; readonly code: string; readonly text: string };

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: string; readonly text: string };

export type FileText = { readonly text: string } | { readonly fault: string };

export interface Context {
  /** One request to the management API. Never throws: an appliance that does not answer is `unreachable`. */
  ask<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<Answer<T>>;
  readonly style: Style;
  readonly json: boolean;
  /** Prints one more piece of output before the command ends (`--watch`, `--follow`). */
  emit(text: string): void;
  sleep(delayMs: number): Promise<void>;
  /** Writes a file; returns what went wrong, or null. */
  writeFile(path: string, text: string): string | null;
  /** A short text file, whole. */
  readFile(path: string): FileText;
  readonly isTerminal: boolean;
  readonly updates: UpdateTools;
}

/** The arguments and options of one call. */
export class Given {
  readonly #parsed: ParsedArgs;

  constructor(parsed: ParsedArgs) {
    this.#parsed = parsed;
  }

  arg(index: number): string {
    return this.#parsed.args[index] ?? "";
  }
  /** For paths. */
  encoded(index: number): string {
    return encodeURIComponent(this.arg(index));
  }
  has(option: string): boolean {
    return this.#parsed.options.has(option);
  }
  text(option: string): string | null {
    const value = this.#parsed.options.get(option);
    return typeof value === "string" ? value : null;
  }
  number(option: string): number | null {
    const value = this.#parsed.options.get(option);
    return typeof value === "number" ? value : null;
  }
  list(option: string): readonly string[] {
    const value = this.#parsed.options.get(option);
    return Array.isArray(value) ? (value as readonly string[]) : [];
  }
}

export function given(
  command: Command,
  words: readonly string[],
): { readonly ok: true; readonly value: Given } | { readonly ok: false; readonly text: string } {
  const parsed = parseArgs(words, command.args, command.options);
  return parsed.ok ? { ok: true, value: new Given(parsed.value) } : parsed;
}

/** Asks, and prints what comes back. */
export async function answered<T>(asked: Promise<Answer<T>>, describe: (value: T) => string): Promise<Outcome> {
  const answer = await asked;
  if (!answer.ok) return { kind: "refused", code: answer.code, text: answer.text };
  return { kind: "done", json: answer.value, text: describe(answer.value) };
}

export const timeoutOption: OptionSpec = {
  name: "timeout",
  kind: "duration",
  value: "TIME",
  what: "how long to wait (60s); the operation goes on",
};

/** Of a pair. */
export const ownerOption: OptionSpec = {
  name: "owner",
  kind: "text",
  value: "APPLIANCE",
  what: "which appliance of a pair is to serve the new group (default: the one that has fewer)",
};

export function ownerOf(call: Given): { owner?: string } {
  const owner = call.text("owner");
  return owner === null ? {} : { owner };
}

/** The part of a request's body that every long operation has. */
export function timeoutOf(call: Given): { timeoutMs: number } {
  return { timeoutMs: Math.max(1, Math.round(call.number("timeout") ?? 60_000)) };
}

export const nameArg = (what: string): ArgSpec => ({ name: "NAME", what });
