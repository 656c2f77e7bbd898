/**
 * One call of `goldcopy`, from its words to its exit code. Everything outside comes in through `Outside`.
 *
 * Exit codes: 0 done; 1 refused or failed, with one line on stderr (what, why, what to do); 2 usage.
 */
import type { GroupJson } from "../manage/status_json.ts";
import type { Answer, Command, Context, FileText } from "./command.ts";
import { given } from "./command.ts";
import { commands, isLater, later, nouns } from "./command_table.ts";
import type { UpdateTools } from "./commands_update.ts";
import { commandHelp, commandLine, nounHelp, toolHelp } from "./help.ts";
import { operationText } from "./status_view.ts";

export interface Outside {
  /** Sends one request to the appliance at `at`; gives up after `limitMs`. */
  ask(at: string, method: string, path: string, body: unknown, limitMs: number): Promise<Answer<unknown>>;
  readonly defaultAt: string;
  out(text: string): void;
  err(text: string): void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  readonly colour: boolean;
  sleep(delayMs: number): Promise<void>;
  writeFile(path: string, text: string): string | null;
  readFile(path: string): FileText;
  readonly updates: UpdateTools;
}

const exitDone = 0;
const exitRefused = 1;
const exitUsage = 2;

interface CommonOptions {
  readonly json: boolean;
  readonly help: boolean;
  readonly at: string | null;
  readonly words: readonly string[];
}

export async function runGoldcopy(argv: readonly string[], outside: Outside): Promise<number> {
  const common = splitCommonOptions(argv);
  if (typeof common === "string") return usageFault(outside, argv.includes("--json"), common, "goldcopy --help");
  const [noun, ...rest] = common.words;
  if (noun === undefined || noun === "help") {
    if (common.help || noun === "help") {
      outside.out(toolHelp());
      return exitDone;
    }
    outside.err(toolHelp());
    return exitUsage;
  }
  const ofNoun = commands.filter((command) => command.noun === noun);
  const verb = rest[0];
  const command =
    ofNoun.find((candidate) => candidate.verb === null) ?? ofNoun.find((candidate) => candidate.verb === verb);
  const known = ofNoun.length > 0 || later.some((entry) => entry.noun === noun);
  if (common.help && known) {
    outside.out(command === undefined ? nounHelp(noun) : commandHelp(command));
    return exitDone;
  }
  if (command === undefined && isLater(noun, verb)) {
    const text = `goldcopy ${[noun, verb].filter((word) => word !== undefined).join(" ")} is not in this version`;
    return refused(outside, common.json, "not-in-this-version", text);
  }
  if (!known) {
    const names = nouns.map((entry) => entry.noun).join(", ");
    return usageFault(
      outside,
      common.json,
      `there is no noun "${noun.slice(0, 60)}" (there are ${names})`,
      "goldcopy --help",
    );
  }
  if (command === undefined) {
    const verbs = ofNoun.map((candidate) => candidate.verb).join(", ");
    const text = verb === undefined ? `goldcopy ${noun} needs a verb` : `${noun} has no verb "${verb.slice(0, 60)}"`;
    return usageFault(outside, common.json, `${text} (there are ${verbs})`, `goldcopy ${noun} --help`);
  }
  return await runCommand(command, command.verb === null ? rest : rest.slice(1), common, outside);
}

async function runCommand(
  command: Command,
  words: readonly string[],
  common: CommonOptions,
  outside: Outside,
): Promise<number> {
  const call = given(command, words);
  if (!call.ok) {
    return usageFault(outside, common.json, `${call.text}; usage: ${commandLine(command)}`, "--help");
  }
  const at = common.at ?? outside.defaultAt;
  const context: Context = {
    ask: async <T>(method: string, path: string, body?: unknown) =>
      (await outside.ask(at, method, path, body, limitMsOf(method, path, body))) as Answer<T>,
    style: { colour: outside.colour && !common.json },
    json: common.json,
    emit: (text) => outside.out(text),
    sleep: (delayMs) => outside.sleep(delayMs),
    writeFile: (path, text) => outside.writeFile(path, text),
    readFile: (path) => outside.readFile(path),
    isTerminal: outside.outIsTerminal,
    updates: outside.updates,
  };
  const progress = command.long === true && !common.json && outside.errIsTerminal;
  const running = command.run(context, call.value);
  const outcome = progress ? await withProgress(running, call.value.arg(0), context, outside) : await running;
  switch (outcome.kind) {
    case "refused":
      return refused(outside, common.json, outcome.code, outcome.text);
    case "done":
    case "unequal":
      outside.out(common.json ? JSON.stringify(outcome.json, null, 2) : outcome.text);
      return outcome.kind === "done" ? exitDone : exitRefused;
  }
}

/** A healthy appliance answers questions at once, changes when they are durable, and the rest within the time it was given. */
const answerLimitMs = { question: 10_000, change: 60_000 } as const;

/** So that an appliance that hangs (a paused process, a stuck disk) is told from one that works. */
function limitMsOf(method: string, path: string, body: unknown): number {
  const given = (body as { timeoutMs?: number } | undefined)?.timeoutMs ?? Number(/waitMs=(\d+)/.exec(path)?.[1] ?? 0);
  return given + (method === "GET" ? answerLimitMs.question : answerLimitMs.change);
}

/** Shows the group's running operation on one line of stderr until `running` ends. */
async function withProgress<T>(running: Promise<T>, group: string, context: Context, outside: Outside): Promise<T> {
  let ended = false;
  const watched = running.finally(() => {
    ended = true;
  });
  let shown = false;
  while (!ended) {
    await Promise.race([watched.catch(() => undefined), context.sleep(300)]);
    if (ended) break;
    const answer = await context.ask<GroupJson>("GET", `/v1/groups/${encodeURIComponent(group)}`);
    if (ended || !answer.ok || answer.value.operation === null) continue;
    outside.err(`\r\u001b[K${operationText(context.style, answer.value.operation)}\r`);
    shown = true;
  }
  if (shown) outside.err("\r\u001b[K\r");
  return await watched;
}

/** Takes --json, --help and --at out, wherever they stand before `--`. A text is a fault. */
function splitCommonOptions(argv: readonly string[]): CommonOptions | string {
  const words: string[] = [];
  let json = false;
  let help = false;
  let at: string | null = null;
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === "--") {
      words.push(...argv.slice(i));
      break;
    }
    if (word === "--json") json = true;
    else if (word === "--help" || word === "-h") help = true;
    else if (word === "--at" || word.startsWith("--at=")) {
      at = word === "--at" ? (argv[++i] ?? "") : word.slice("--at=".length);
      if (at === "" || at.startsWith("--")) return "--at needs a value: a socket's path or a URL";
    } else words.push(word);
  }
  return { json, help, at, words };
}

function refused(outside: Outside, json: boolean, code: string, text: string): number {
  if (json) outside.out(JSON.stringify({ error: { code, text } }, null, 2));
  else outside.err(`goldcopy: ${text} (${code})`);
  return exitRefused;
}

function usageFault(outside: Outside, json: boolean, text: string, see: string): number {
  if (json) outside.out(JSON.stringify({ error: { code: "usage", text } }, null, 2));
  else outside.err(`goldcopy: ${text}; see ${see}`);
  return exitUsage;
}
