/** `goldcopy update ...` from its words to its exit code, on a simulated image and beside a firmware that answers as told. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Answer } from "../../firmware/shell/command.ts";
import type { UpdateTools } from "../../firmware/shell/commands_update.ts";
import { runGoldcopy } from "../../firmware/shell/run.ts";
import { linuxSignatureCheck } from "../../hal/linux/signature_check.ts";
import type { MockImage } from "../../hal/mock/appliance_image.ts";
import { fakeGroup, fakeStatus } from "./fake_control.ts";
import { imageBench, makeBundleBytes, noImage, ownKey, sourceOf } from "./support/update_bench.ts";

const test = suite("shell_update");

type Answers = Record<string, Answer<unknown>>;

const alone: Answer<unknown> = { ok: false, code: "not-found", text: "this array has one appliance, and no pair" };
const unreachable: Answer<unknown> = { ok: false, code: "unreachable", text: "no appliance answers" };
const pairOf = (state: string): Answer<unknown> => ({
  ok: true,
  value: { state, partner: "oak-b", appliance: "oak-a" },
});
const noTrial: Answer<unknown> = { ok: true, value: { trial: null } };

function setUp(answers: Answers = {}, updates: Partial<UpdateTools> = {}, image: MockImage = imageBench()) {
  const out: string[] = [];
  const err: string[] = [];
  const asked: string[] = [];
  const known: Answers = {
    "GET /v1/pair": alone,
    "GET /v1/pair/trial": alone,
    "GET /v1/status": { ok: true, value: fakeStatus() },
    ...answers,
  };
  const run = (line: string) =>
    runGoldcopy(line.split(" "), {
      ask: async (_at, method, path, body) => {
        asked.push(`${method} ${path}${method === "POST" ? ` ${JSON.stringify(body)}` : ""}`);
        return known[`${method} ${path}`] ?? unreachable;
      },
      defaultAt: "/default.sock",
      out: (text) => out.push(text),
      err: (text) => err.push(text),
      outIsTerminal: false,
      errIsTerminal: false,
      colour: false,
      sleep: async () => {},
      writeFile: () => null,
      readFile: () => ({ fault: "no such file" }),
      updates: {
        image: () => image,
        source: (name) => ({ ...sourceOf(makeBundleBytes()), name }),
        check: linuxSignatureCheck,
        keyFile: () => ({ fault: "no such file or directory" }),
        ...updates,
      },
    });
  const json = () => JSON.parse(out.at(-1) ?? "") as Record<string, unknown>;
  return { run, out, err, asked, image, known, json };
}

const refusedWith = (err: readonly string[], code: string) =>
  assert.match(err.join("\n"), new RegExp(`\\(${code}\\)$`));

test("an ordinary server -> updates are for images, from every verb; a bundle can be looked at with a key", async () => {
  const { run, err, out } = setUp({}, noImage);
  for (const words of ["status", "verify x.bundle", "install x.bundle", "rollback", "confirm"]) {
    assert.is(await run(`update ${words}`), 1);
    assert.match(err.at(-1) ?? "", /updates are for appliance images, and this is not one.*\(not-an-image\)/);
  }
  assert.is(await run("update verify x.bundle --key oak.pem"), 0);
  assert.match(out.at(-1) ?? "", /0\.2\.0 \(0123456789ab\) for goldcopy-vm-x86_64, counter 20, .*key oak: whole/);
});

test("a key file that cannot be read -> its name and why", async () => {
  const { run, err } = setUp();
  assert.is(await run("update verify x.bundle --key missing.pem"), 1);
  assert.match(err[0] ?? "", /missing\.pem: no such file or directory \(unreadable\)/);
});

test("install, status, confirm, status, rollback -> each says what is and what comes next", async () => {
  const { run, out, image, json } = setUp();
  assert.is(await run("update status"), 0);
  assert.match(out.at(-1) ?? "", /state +good: known to work/);
  assert.is(await run("update install x.bundle"), 0);
  assert.match(out.join("\n"), /x\.bundle: 0\.2\.0, signed with the key oak/);
  assert.is(out.at(-1), "0.2.0 is in slot b; the next restart starts it");
  assert.equal(image.said, ["0.2.0 is installed in slot b: the next restart starts it"]);
  assert.is(image.restarts, 0);
  assert.is(await run("update status --json"), 0);
  assert.equal([json()["phase"], json()["next"]], ["installed", "b"]);
  image.boot();
  image.showTrial("group demo has not found its role yet");
  await run("update status");
  assert.match(out.at(-1) ?? "", /state +trial: .*\nwhy +group demo has not found its role yet\n/);
  image.machine = { serving: true, degraded: null, upMs: 1000 };
  assert.is(await run("update confirm --json"), 0);
  assert.equal(json(), { good: true });
  assert.is(await run("update rollback --json"), 0);
  assert.equal(json(), { changed: true, slot: "a", restarting: false });
});

test("a group that is not writable, a pair that is not mirrored, a half that is refused -> waits, and says for what", async () => {
  const over = {
    "group demo is not writable: nobody has confirmed it": {
      groups: [fakeGroup({ writable: false, why: "nobody has confirmed it" })],
    },
    "group demo has not found its role yet": { groups: [fakeGroup({ settled: false })] },
    "the pair is copying: oak-b has no whole copy of the write cache": {
      pair: { state: "copying" as const, partner: "oak-b" },
    },
    "a part of the array is not served": {
      warnings: [{ code: "half-refused", text: "a part of the array is not served" }],
    },
  };
  for (const [why, status] of Object.entries(over)) {
    const { run, image, known, asked } = setUp({ "GET /v1/status": { ok: true, value: fakeStatus(status) } });
    await run("update install x.bundle");
    image.boot();
    image.machine = { serving: true, degraded: null, upMs: 1000 };
    const show = image.showTrial.bind(image);
    const shown: (string | null)[] = [];
    image.showTrial = (text) => {
      shown.push(text);
      show(text);
      known["GET /v1/status"] = { ok: true, value: fakeStatus() };
    };
    assert.is(await run("update confirm"), 0);
    assert.is(shown[0], why);
    assert.is(asked.filter((line) => line === "GET /v1/status").length, 6);
  }
});

test("a pair that is not mirrored, a partner on trial, a firmware that does not say -> refused, and nothing is written", async () => {
  const cases: [Answers, string, RegExp][] = [
    [{ "GET /v1/pair": pairOf("degraded") }, "pair-not-mirrored", /the pair is degraded, so oak-b could not take over/],
    [
      { "GET /v1/pair": pairOf("mirrored"), "GET /v1/pair/trial": { ok: true, value: { trial: "it copies" } } },
      "partner-on-trial",
      /oak-b runs a version that is not known to work yet \(it copies\)/,
    ],
    [
      { "GET /v1/pair": pairOf("mirrored"), "GET /v1/pair/trial": unreachable },
      "unreachable",
      /whether oak-b is on trial/,
    ],
    [{ "GET /v1/pair": unreachable }, "unreachable", /not known whether a partner could take over/],
  ];
  for (const [answers, code, text] of cases) {
    const { run, err, image } = setUp(answers);
    assert.is(await run("update install x.bundle"), 1);
    assert.match(err.at(-1) ?? "", text);
    refusedWith(err, code);
    assert.is(image.writes, 0);
  }
});

test("a partner older than updates -> it cannot be on trial; a firmware that cannot be started -> an update may be what it needs", async () => {
  const old = setUp({ "GET /v1/pair": pairOf("mirrored"), "GET /v1/pair/trial": alone });
  assert.is(await old.run("update install x.bundle"), 0);
  const image = imageBench();
  image.machine = { serving: false, degraded: "the firmware has ended 5 times", upMs: 1 };
  const degraded = setUp({ "GET /v1/pair": unreachable, "GET /v1/pair/trial": unreachable }, {}, image);
  assert.is(await degraded.run("update install x.bundle --restart"), 0);
  assert.is(image.restarts, 1);
});

test("--restart on a pair -> everything is handed over first; where that is refused the machine goes on", async () => {
  const pair = { "GET /v1/pair": pairOf("mirrored"), "GET /v1/pair/trial": noTrial };
  const handOver = "POST /v1/pair/failover";
  const given = setUp({ ...pair, [handOver]: { ok: true, value: { changed: true, owner: "oak-b" } } });
  assert.is(await given.run("update install x.bundle --restart --json"), 0);
  assert.is(given.asked.at(-1), `${handOver} {"to":"oak-b","timeoutMs":60000}`);
  assert.is(given.json()["restarting"], true);
  assert.is(given.image.restarts, 1);

  const kept = setUp({ ...pair, [handOver]: { ok: false, code: "not-connected", text: "oak-b has no complete copy" } });
  assert.is(await kept.run("update install x.bundle --restart"), 1);
  assert.match(
    kept.err[0] ?? "",
    /0\.2\.0 is in slot b.*not restarted now: oak-b has no complete copy \(not-connected\)/,
  );
  assert.is(kept.image.restarts, 0);
});

test("another update under way -> busy", async () => {
  const image = imageBench();
  image.isLocked = true;
  const { run, err } = setUp({}, {}, image);
  for (const words of ["install x.bundle", "rollback"]) {
    assert.is(await run(`update ${words}`), 1);
    refusedWith(err.slice(-1), "busy");
  }
  assert.is(image.writes, 0);
});

test("notes that cannot be read -> refused, shown by status; on the operator's word what runs is the oldest allowed", async () => {
  for (const text of ["", "{", '{"counter": -1, "slots": {}}', '{"counter": 1}', "x".repeat(20_000)]) {
    const image = imageBench();
    image.notes = new TextEncoder().encode(text);
    const { run, err, out, json } = setUp({}, {}, image);
    assert.is(await run("update install x.bundle"), 1);
    refusedWith(err, "state-unreadable");
    assert.match(err.at(-1) ?? "", /--accept-lost-notes/);
    assert.is(await run("update verify x.bundle"), 1);
    assert.is(image.writes, 0);
    await run("update status --json");
    assert.is(json()["counter"], null);
    assert.match(String(json()["notesTrouble"]), /cannot be read/);
    assert.is(await run("update install x.bundle --accept-lost-notes"), 0, out.join("\n"));
    await run("update status --json");
    assert.is(json()["counter"], 10);
  }
});

test("a bundle with another key than the image's -> refused, and said in JSON", async () => {
  const image = imageBench();
  image.keys = [{ ...ownKey.accepted, publicKey: new Uint8Array(32) }];
  const { run, json } = setUp({}, {}, image);
  assert.is(await run("update verify x.bundle --json"), 1);
  assert.is((json()["error"] as { code: string }).code, "bad-signature");
});

test.run();
