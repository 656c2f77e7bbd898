import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createApi } from "../../firmware/manage/api.ts";
import { EventLog } from "../../firmware/manage/events.ts";
import type { Answer } from "../../firmware/shell/command.ts";
import { runGoldcopy } from "../../firmware/shell/run.ts";
import { fakeControl, fakeGroup, fakeLab, fakeStatus, ManualClock } from "./fake_control.ts";
import { noImage } from "./support/update_bench.ts";

const test = suite("shell_run");

/** The whole way from words to the control and back, without a socket. */
function setUp(options: { terminal?: boolean; colour?: boolean } = {}) {
  const fake = fakeControl();
  const clock = new ManualClock();
  const events = new EventLog(clock, () => {});
  const api = createApi({ control: fake.control, events, clock, lab: fakeLab(fake.calls) });
  const out: string[] = [];
  const err: string[] = [];
  const files = new Map<string, string>();
  const asked: string[] = [];
  const limitsMs: number[] = [];
  let sleeps = 0;
  let onSleep: (count: number) => void = () => {};
  const run = (line: string) =>
    runGoldcopy(line === "" ? [] : line.split(" "), {
      ask: async (at, method, path, body, limitMs): Promise<Answer<unknown>> => {
        asked.push(`${at} ${method} ${path}`);
        limitsMs.push(limitMs);
        if (at === "/nowhere") return { ok: false, code: "unreachable", text: "no appliance answers at /nowhere" };
        const answer = await api(method, path, body === undefined ? "" : JSON.stringify(body));
        if (answer.status === 200) return { ok: true, value: answer.body };
        const { error } = answer.body as { error: { code: string; text: string } };
        return { ok: false, ...error };
      },
      defaultAt: "/default.sock",
      out: (text) => out.push(text),
      err: (text) => err.push(text),
      outIsTerminal: options.terminal ?? false,
      errIsTerminal: options.terminal ?? false,
      colour: options.colour ?? false,
      sleep: async () => {
        sleeps++;
        onSleep(sleeps);
        await Promise.resolve();
      },
      writeFile: (path, text) => {
        files.set(path, text);
        return path.startsWith("/missing") ? "no such directory" : null;
      },
      readFile: (path) => {
        const text = files.get(path);
        return text === undefined ? { fault: "no such file" } : { text };
      },
      updates: noImage,
    });
  return {
    fake,
    events,
    out,
    err,
    files,
    asked,
    limitsMs,
    run,
    sleepHook: (hook: (count: number) => void) => (onSleep = hook),
  };
}

test("every command, with good words -> exit 0, one line per fact, the right call", async () => {
  const rows: [string, string | null][] = [
    ["status", null],
    ["log", null],
    [
      "volume create data-1 --size 10GiB",
      'volume.create {"name":"data-1","sizeBytes":10737418240,"group":null,"pool":null}',
    ],
    ["volume list", null],
    ["volume show demo-1", null],
    ["volume resize demo-1 --size 2GiB", "volume.resize demo-1 2147483648"],
    ["volume delete demo-1", "volume.delete demo-1"],
    ["group create g", "group.create g"],
    ["group list", null],
    ["group show demo", null],
    ["group add-peer demo elm --mode sync", 'group.addPeer demo {"array":"elm","mode":"sync","cycleMs":null}'],
    ["group add-peer demo elm --mode delta", 'group.addPeer demo {"array":"elm","mode":"delta","cycleMs":30000}'],
    ["group set-mode demo elm --mode async", 'group.setMode demo {"array":"elm","mode":"async","cycleMs":null}'],
    ["group migrate demo --to elm --timeout 5s", 'group.migrate demo {"to":"elm","timeoutMs":5000}'],
    ["group takeover demo --force", 'group.takeover demo {"force":true,"fork":false,"timeoutMs":60000}'],
    ["group failback demo", 'group.failback demo {"timeoutMs":60000}'],
    ["group serve demo --alone", 'group.serveAlone demo {"alone":true,"timeoutMs":60000}'],
    ["group verify demo", 'group.verify demo {"peer":null,"timeoutMs":60000}'],
    ["group resync demo --from elm", 'group.resync demo {"from":"elm","timeoutMs":60000}'],
    ["group delete demo", "group.delete demo"],
    ["host add web --address 192.0.2.0/24 --iqn iqn.2026-11.org.example:web", null],
    ["host map any demo-1 --lun 3 --read-only", 'host.map any {"volume":"demo-1","lun":3,"readOnly":true}'],
    ["host unmap any demo-1", "host.unmap any demo-1"],
    ["host list", null],
    ["host remove any", "host.remove any"],
    ["peer list", null],
    ["peer show elm", null],
    ["shelf list", null],
    ["disk show shelf0/0", null],
    ["pool list", null],
    ["cache show oak-a", null],
    ["support bundle", null],
  ];
  for (const [line, call] of rows) {
    for (const json of ["", " --json"]) {
      const { run, fake, out, err } = setUp();
      const code = await run(line + json);
      assert.is(code, 0, `${line}${json}: ${err.join(" ")}`);
      assert.equal(err, [], line);
      assert.is(out.length, 1, line);
      assert.not.match(out[0]!, "undefined", line);
      if (call !== null) assert.ok(fake.calls.includes(call), `${line}: ${fake.calls}`);
      if (json !== "") JSON.parse(out[0]!);
    }
  }
});

test("status with --json -> the document of the interface, its numbers as numbers", async () => {
  const { run, out } = setUp();
  await run("status --json");
  const status = JSON.parse(out[0]!);
  assert.is(status.array, "oak");
  assert.is(status.pair, null);
  assert.is(status.groups[0].peers[0].lagSeqs, 10);
  assert.is(status.groups[0].writable, true);
});

test("status of a cut-off golden copy -> says why it is not writable, and warnings", async () => {
  const { run, out, fake } = setUp();
  const why = "elm is the golden copy of oak";
  const operation = { kind: "resync", peer: "oak", doneBytes: 1024, totalBytes: 4096 } as const;
  fake.status = fakeStatus({
    groups: [fakeGroup({ role: "golden", writable: false, why, state: "consistent", operation })],
    warnings: [{ code: "peer-silent", text: "oak\u001b[2J does not answer" }],
  });
  await run("status");
  assert.match(out[0]!, why);
  assert.match(out[0]!, "25 %");
  assert.match(out[0]!, "oak?[2J does not answer (peer-silent)");
  assert.not.match(out[0]!, "\u001b");
});

test("refusal -> exit 1, one line on stderr; with --json the error as JSON", async () => {
  const plain = setUp();
  assert.is(await plain.run("group takeover demo"), 1);
  assert.equal(plain.out, []);
  assert.equal(plain.err, ["goldcopy: oak answers: migrate instead, or use --force (primary-reachable)"]);
  const json = setUp();
  assert.is(await json.run("group takeover demo --json"), 1);
  assert.is(JSON.parse(json.out[0]!).error.code, "primary-reachable");
});

test("verify that finds a difference -> printed, exit 1", async () => {
  const { run, fake, out } = setUp();
  const bad = { name: "demo-1", equal: false, digest: "aa", peerDigest: "bb" };
  fake.control.groups.verify = async () => ({
    ok: true,
    value: { equal: false, peers: [{ array: "elm", seq: 3, equal: false, comparedBytes: 4096, volumes: [bad] }] },
  });
  assert.is(await run("group verify demo"), 1);
  assert.match(out[0]!, "NOT EQUAL");
});

test("wrong words -> exit 2, one line that says what to type", async () => {
  const lines = [
    "nonsense",
    "volume",
    "volume paint x",
    "volume create",
    "volume create x",
    "volume create x --size lots",
    "volume create x y --size 1GiB",
    "group serve demo",
    "group add-peer demo elm --mode quick",
    "status extra",
    "status --at",
    "group migrate demo",
  ];
  for (const line of lines) {
    const { run, fake, err, out } = setUp();
    assert.is(await run(line), 2, line);
    assert.is(err.length, 1, line);
    assert.not.match(err[0]!, "\n", line);
    assert.equal(out, []);
    assert.equal(fake.calls, []);
    const json = setUp();
    assert.is(await json.run(`${line} --json`), 2, line);
  }
  const { run, err } = setUp();
  assert.is(await run(""), 2);
  assert.match(err[0]!, "usage:");
});

test("host add with CHAP -> the secret comes from its file, goes to the appliance alone, and is never printed", async () => {
  const { run, fake, files, out, err } = setUp();
  files.set("/good", "a secret of a host\n");
  files.set("/short", "elevenbytes\n");
  assert.is(await run("host add h --iqn iqn.x:1 --chap-user u --chap-secret-file /good --json"), 0);
  assert.ok(JSON.stringify(fake.calls).includes("a secret of a host"));
  assert.is(await run("host add h --iqn iqn.x:1 --chap-user u --chap-secret-file /short"), 1);
  assert.is(await run("host add h --iqn iqn.x:1 --chap-user u --chap-secret-file /none"), 1);
  assert.is(await run("host add h --iqn iqn.x:1 --chap-user u"), 1);
  const printed = [...out, ...err].join("\n");
  assert.ok(
    printed.includes("holds 11 bytes") && printed.includes("no such file") && printed.includes("belong together"),
  );
  assert.is(printed.includes("a secret") || printed.includes("elevenbytes"), false);
});

test("verbs of later versions -> exit 1, not-in-this-version", async () => {
  for (const line of ["snapshot create x", "journal show", "schedule", "test start", "peer invite"]) {
    const { run, out } = setUp();
    assert.is(await run(`${line} --json`), 1, line);
    assert.is(JSON.parse(out[0]!).error.code, "not-in-this-version", line);
  }
});

test("--help at every level -> exit 0 and no request", async () => {
  for (const line of [
    "--help",
    "help",
    "volume --help",
    "group migrate --help",
    "snapshot --help",
    "status --help",
    "group takeover demo --help",
  ]) {
    const { run, out, asked } = setUp();
    assert.is(await run(line), 0, line);
    assert.ok(out[0]!.length > 40, line);
    assert.equal(asked, []);
  }
});

test("--at anywhere -> that appliance; nothing there -> exit 1", async () => {
  for (const line of ["--at /nowhere status", "status --at=/nowhere", "status --at /nowhere"]) {
    const { run, asked, err } = setUp();
    assert.is(await run(line), 1);
    assert.equal(asked, ["/nowhere GET /v1/status"]);
    assert.match(err[0]!, "unreachable");
  }
  const { run, asked } = setUp();
  await run("status");
  assert.equal(asked, ["/default.sock GET /v1/status"]);
});

test("an appliance that hangs -> given up on: soon for a question, after its own timeout for a long operation", async () => {
  const { run, limitsMs } = setUp();
  await run("status");
  await run("group migrate demo --to elm --timeout 5m");
  await run("volume create x --size 1GiB");
  assert.equal(limitsMs, [10_000, 360_000, 60_000]);
});

test("colour only when asked for -> escapes with it, none without, none in JSON", async () => {
  const plain = setUp();
  await plain.run("status");
  assert.not.match(plain.out[0]!, "\u001b");
  const coloured = setUp({ colour: true });
  await coloured.run("status");
  assert.match(coloured.out[0]!, "\u001b[32m");
  const json = setUp({ colour: true });
  await json.run("status --json");
  assert.not.match(json.out[0]!, "\u001b");
});

test("long command on a terminal -> a bar on stderr while it runs, wiped at the end", async () => {
  const { run, fake, err, sleepHook } = setUp({ terminal: true });
  const operation = { kind: "verify", peer: "elm", doneBytes: 1 << 20, totalBytes: 4 << 20 } as const;
  fake.status = fakeStatus({ groups: [fakeGroup({ operation })] });
  let finish = () => {};
  fake.control.groups.verify = () =>
    new Promise((resolve) => {
      finish = () => resolve({ ok: true, value: { equal: true, peers: [] } });
    });
  sleepHook((count) => {
    if (count === 5) finish();
  });
  assert.is(await run("group verify demo"), 0);
  assert.ok(err.some((text) => text.includes("25 %")));
  assert.match(err.at(-1)!, /^\r/);
});

test("log -> newest last; --follow -> goes on until the appliance is gone", async () => {
  const { run, events, out, fake } = setUp();
  events.emit("one", "first\u0007");
  events.emit("two", "second");
  assert.is(await run("log"), 0);
  assert.match(out[0]!, /one {2}first\?\n.*two {2}second$/);
  assert.is(await run("log --lines 1 --json"), 0);
  assert.equal(
    JSON.parse(out[1]!).map((event: { code: string }) => event.code),
    ["two"],
  );
  const followed = run("log --follow --at /default.sock");
  while (out.length < 4) await new Promise((resolve) => setImmediate(resolve));
  events.emit("three", "third");
  while (out.length < 5) await new Promise((resolve) => setImmediate(resolve));
  assert.match(out[4]!, "third");
  assert.equal(fake.calls, []);
  void followed;
});

test("support bundle to a file -> written; unwritable -> exit 1", async () => {
  const { run, files, out, err } = setUp();
  assert.is(await run("support bundle --out /tmp-file"), 0);
  assert.ok(JSON.parse(files.get("/tmp-file")!).status.array === "oak");
  assert.equal(out, ["wrote /tmp-file"]);
  assert.is(await run("support bundle --out /missing/x"), 1);
  assert.match(err[0]!, "no such directory");
});

test.run();
