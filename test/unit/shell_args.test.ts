import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type OptionSpec, parseArgs, usageOf } from "../../firmware/shell/args.ts";
import { commands, later, nouns } from "../../firmware/shell/command_table.ts";

const test = suite("shell_args");

const name = [{ name: "NAME", what: "the thing" }];
const options: OptionSpec[] = [
  { name: "size", kind: "size", value: "S", required: true, what: "its size" },
  { name: "any", kind: "flag", what: "whoever" },
  { name: "iqn", kind: "list", value: "IQN", what: "a name" },
  { name: "mode", kind: "text", choices: ["sync", "async"], what: "how" },
  { name: "lun", kind: "integer", value: "N", what: "a number" },
];

test("options before, between and after arguments, with = or a space -> parsed", () => {
  const lines = ["--size 4096 disk --any", "disk --size=4096 --any", "--any --size 4KiB -- disk"];
  for (const line of lines) {
    const parsed = parseArgs(line.split(" "), name, options);
    assert.ok(parsed.ok, line);
    assert.equal(parsed.value.args, ["disk"]);
    assert.is(parsed.value.options.get("size"), 4096);
    assert.is(parsed.value.options.get("any"), true);
  }
  const listed = parseArgs("x --size 1 --iqn a --iqn b".split(" "), name, options);
  assert.ok(listed.ok);
  assert.equal(listed.value.options.get("iqn"), ["a", "b"]);
});

test("faults -> one line that names what is wrong", () => {
  const rows: [string, string][] = [
    ["--size 4096", "NAME is missing"],
    ["disk", "--size S is missing"],
    ["disk more --size 1", 'unexpected argument "more"'],
    ["disk --size", "--size needs a value"],
    ["disk --size many", 'not "many"'],
    ["disk --size 1 --size 2", "given twice"],
    ["disk --size 1 --mode quick", "sync, async"],
    ["disk --size 1 --lun x", "whole number"],
    ["disk --size 1 --any=yes", "takes no value"],
    ["disk --size 1 --wide", "unknown option --wide"],
    ["disk --size 1 -x", "unknown option -x"],
  ];
  for (const [line, text] of rows) {
    const parsed = parseArgs(line.split(" "), name, options);
    assert.not(parsed.ok, line);
    assert.match((parsed as { text: string }).text, text);
    assert.not.match((parsed as { text: string }).text, "\n");
  }
  const flag = parseArgs(["disk"], name, [{ name: "alone", kind: "flag", what: "nobody else", required: true }]);
  assert.is((flag as { text: string }).text, "--alone is missing: nobody else");
});

test("usage line -> required bare, optional in brackets", () => {
  assert.is(usageOf(name, options), "NAME --size S [--any] [--iqn IQN]... [--mode sync|async] [--lun N]");
});

test("command table -> no name twice, every noun described, no later verb that exists", () => {
  const seen = new Set<string>();
  for (const command of commands) {
    const key = `${command.noun} ${command.verb}`;
    assert.not(seen.has(key), key);
    seen.add(key);
    assert.ok(
      nouns.some((entry) => entry.noun === command.noun),
      key,
    );
    assert.ok(command.summary.length > 0);
    const optionNames = command.options.map((option) => option.name);
    assert.is(new Set(optionNames).size, optionNames.length);
    assert.not(optionNames.some((option) => ["json", "help", "at"].includes(option)));
  }
  for (const { noun, verbs } of later) for (const verb of verbs) assert.not(seen.has(`${noun} ${verb}`));
});

test.run();
