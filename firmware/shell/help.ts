/** `--help` at every level: the tool, a noun, a command. */
import { type OptionSpec, usageOf } from "./args.ts";
import type { Command } from "./command.ts";
import { commands, later, nouns } from "./command_table.ts";

const commonOptions: readonly OptionSpec[] = [
  { name: "json", kind: "flag", what: 'print JSON; a failure prints {"error": {"code", "text"}}' },
  { name: "at", kind: "text", value: "WHERE", what: "the appliance: a socket's path or a URL (or set GOLDCOPY_AT)" },
  { name: "help", kind: "flag", what: "this text" },
];

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}

function optionRows(options: readonly OptionSpec[]): [string, string][] {
  return options.map((option) => {
    const value = option.kind === "flag" ? "" : ` ${option.choices?.join("|") ?? option.value ?? "VALUE"}`;
    return [`--${option.name}${value}`, option.what];
  });
}

export function commandLine(command: Command): string {
  const words = ["goldcopy", command.noun, ...(command.verb === null ? [] : [command.verb])];
  const usage = usageOf(command.args, command.options);
  return usage === "" ? words.join(" ") : `${words.join(" ")} ${usage}`;
}

export function toolHelp(): string {
  return [
    "goldcopy: block replication with a golden copy at another site",
    "",
    "usage: goldcopy NOUN [VERB] [NAME] [--options]",
    "",
    columns(nouns.map(({ noun, what }) => [noun, what])),
    "",
    "not in this version:",
    columns(later.map(({ noun, verbs, what }) => [verbs.includes("*") ? noun : `${noun} ${verbs.join("|")}`, what])),
    "",
    "options of every command:",
    columns(optionRows(commonOptions)),
    "",
    "exit codes: 0 done, 1 refused or failed, 2 usage",
    "more: goldcopy NOUN --help, goldcopy NOUN VERB --help",
  ].join("\n");
}

export function nounHelp(noun: string): string {
  const own = commands.filter((command) => command.noun === noun);
  const what =
    nouns.find((entry) => entry.noun === noun)?.what ?? later.find((entry) => entry.noun === noun)?.what ?? "";
  const lines = [`goldcopy ${noun}: ${what}`];
  if (own.length > 0)
    lines.push("", columns(own.map((command) => [commandLine(command).slice("goldcopy ".length), command.summary])));
  for (const entry of later.filter((candidate) => candidate.noun === noun)) {
    const which = entry.verbs.includes("*") ? "" : ` (${entry.verbs.join(", ")})`;
    lines.push("", `not in this version${which}: ${entry.what}`);
  }
  if (own.length > 0) lines.push("", `more: goldcopy ${noun} VERB --help`);
  return lines.join("\n");
}

export function commandHelp(command: Command): string {
  const lines = [`usage: ${commandLine(command)}`, "", command.summary];
  if (command.details !== undefined) lines.push("", command.details);
  if (command.args.length > 0) lines.push("", columns(command.args.map((arg) => [arg.name, arg.what])));
  lines.push("", columns([...optionRows(command.options), ...optionRows(commonOptions)]));
  return lines.join("\n");
}
