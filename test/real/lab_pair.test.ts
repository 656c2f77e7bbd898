/** What the lab does for a pair before and around its firmware: site, profiles, links, fenced processes, and what it waits for. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BoardProfile } from "../../firmware/manage/board_profile.ts";
import type { PairJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { changeLinks, type LinkChange, readLinks } from "../../scripts/lab_site/links.ts";
import { timeLeft, whenOneSettled, whenSettled, whenWhole } from "../../scripts/lab_site/settling.ts";
import { applianceOf, builtInSite, createLab, type Lab, loadLab, socketOf } from "../../scripts/lab_site/site.ts";
import { siteOf } from "../../scripts/lab_site/site_file.ts";
import { labView } from "../../scripts/lab_site/views.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { profileOf } from "./support/lab_profile.ts";

const root = join(import.meta.dir, "../..");

interface Context {
  dir: string;
  lab: Lab;
}
const test = suite<Context>("lab_pair");

test.before.each(async (context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-pair-"));
  const site = builtInSite({ profile: "pair", mode: "async", persistence: "battery" });
  context.lab = await createLab(join(context.dir, "lab"), site);
});
test.after.each(({ dir }) => {
  rmSync(dir, { recursive: true, force: true });
});

test("the pair's site -> two interconnect ports for each partner, every port its own; kept when loaded", ({ lab }) => {
  const { appliances } = lab.site;
  assert.equal(
    appliances.map(({ name, interconnectPorts }) => [name, interconnectPorts.length]),
    [
      ["oak-a", 2],
      ["oak-b", 2],
      ["elm-a", 0],
    ],
  );
  const ports = appliances.flatMap(({ nbdPorts, nicPorts, iscsiPorts, interconnectPorts }) => [
    ...nbdPorts,
    ...nicPorts,
    ...iscsiPorts,
    ...interconnectPorts,
  ]);
  assert.is(ports.length, 22);
  assert.is(new Set(ports).size, 22);
  assert.equal(loadLab(lab.dir)?.site, lab.site);
});

test("a heartbeat in the site file -> both partners' profiles say it, and what follows from it; else the firmware's own", ({
  lab,
  dir,
}) => {
  const timesOf = (name: string) => {
    const { heartbeatMs, limitMs, hungMs } = profileOf(lab, name).config.pair!;
    return { heartbeatMs, limitMs, hungMs };
  };
  assert.equal(timesOf("oak-a"), { heartbeatMs: 100, limitMs: 1000, hungMs: 2000 });
  const path = join(dir, "site.toml");
  writeFileSync(path, 'heartbeat = "50x5"');
  const { heartbeat } = siteOf({ profile: path, mode: "async", persistence: "battery" });
  lab.site = { ...lab.site, heartbeat };
  for (const name of ["oak-a", "oak-b"])
    assert.equal(timesOf(name), { heartbeatMs: 50, limitMs: 250, hungMs: 1000 }, name);
});

test("a lab from before pairs -> still read", ({ lab }) => {
  const appliances = lab.site.appliances.map(({ interconnectPorts: _, ...appliance }) => appliance);
  writeFileSync(join(lab.dir, "lab.json"), JSON.stringify({ ...lab.site, appliances }));
  assert.equal(loadLab(lab.dir)?.site.appliances[0]?.interconnectPorts, []);
  const shape = { cut: true, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };
  writeFileSync(join(lab.dir, "links.json"), JSON.stringify([{ from: "oak-a", to: "elm-a", nic: 1, shape }]));
  assert.equal(readLinks(lab), [{ from: "oak-a", to: "elm-a", nic: "nic1", shape }]);
});

test("the partners' profiles -> accepted, and each the other's counterpart", ({ lab }) => {
  const a = profileOf(lab, "oak-a");
  const b = profileOf(lab, "oak-b");
  const listening = ({ board }: BoardProfile) =>
    board.nics.filter(({ name }) => name.startsWith("ic")).map(({ listen }) => listen);
  for (const [own, other, name] of [
    [a, b, "oak-b"],
    [b, a, "oak-a"],
  ] as const) {
    assert.is(own.config.pair?.partner, name);
    assert.equal(own.config.pair?.nics, ["ic0", "ic1"]);
    assert.equal(own.config.pair?.addresses, listening(other));
    assert.is(own.config.pair?.limitMs, 1000);
    assert.is(own.board.power?.target, name);
    assert.ok(own.board.power?.kind === "process" && other.board.power?.kind === "process");
    assert.is(own.board.power.targetLockPath, other.board.power.lockPath);
    assert.not.equal(own.board.cache.path, other.board.cache.path);
    assert.not.equal(own.socket, other.socket);
  }
  assert.equal([a.config.pair?.preferred, b.config.pair?.preferred], [true, false]);
  assert.equal(a.board.shelves, b.board.shelves);
  assert.is(a.board.shelves[0]?.fencing, "power");
  for (const { path, sizeBytes, create } of a.board.shelves[0]!.disks) {
    assert.is(create, false);
    assert.is(statSync(path).size, sizeBytes);
  }
});

test("the single array beside a pair -> knows both partners, and has no partner itself", ({ lab }) => {
  const { board, config } = profileOf(lab, "elm-a");
  assert.is(config.pair, null);
  assert.is(board.power, undefined);
  assert.is(board.shelves[0]?.fencing, "none");
  assert.ok(board.shelves[0]?.disks.every(({ create }) => create));
  const addresses = (name: string) => applianceOf(lab, name).nicPorts.map((port) => `127.0.0.1:${port}`);
  assert.equal(config.peers, [
    {
      array: "oak",
      appliances: ["oak-a", "oak-b"].map((name) => ({ name, addresses: addresses(name) })),
    },
  ]);
});

const cut = { cut: true };
const wish = (from: string, to: string, more: Partial<LinkChange> = {}): LinkChange => ({
  from,
  to,
  oneWay: false,
  nic: null,
  change: cut,
  ...more,
});
const words = (links: Awaited<ReturnType<typeof changeLinks>>) =>
  links.map(({ from, nic, to }) => `${from} ${nic} ${to}`).sort();

test("cut between partners -> the interconnect NICs, in the files that both read at their start", async ({ lab }) => {
  const both = ["oak-a ic0 oak-b", "oak-a ic1 oak-b", "oak-b ic0 oak-a", "oak-b ic1 oak-a"];
  assert.equal(words(await changeLinks(lab, wish("oak-a", "oak-b"))), both);
  for (const [from, to] of [
    ["oak-a", "oak-b"],
    ["oak-b", "oak-a"],
  ] as const) {
    const kept = JSON.parse(readFileSync(join(lab.dir, from, "shaping.json"), "utf8"));
    assert.equal([Object.keys(kept), kept.ic0[to].cut, kept.ic1[to].cut], [["ic0", "ic1"], true, true]);
  }
  await changeLinks(lab, wish("oak-a", "oak-b", { nic: "ic0", change: { cut: false } }));
  assert.equal(words(readLinks(lab)), ["oak-a ic1 oak-b", "oak-b ic1 oak-a"]);
  const oneWay = wish("oak-b", "oak-a", { nic: "1", oneWay: true, change: { cut: false } });
  assert.equal(words(await changeLinks(lab, oneWay)), ["oak-b ic1 oak-a"]);
  assert.equal(words(readLinks(lab)), ["oak-a ic1 oak-b"]);
});

test("cut between arrays -> the peer NICs of every combination, and no interconnect", async ({ lab }) => {
  const nics = ["nic0", "nic1"];
  const expected = ["oak-a", "oak-b"].flatMap((oak) =>
    nics.flatMap((nic) => [`${oak} ${nic} elm-a`, `elm-a ${nic} ${oak}`]),
  );
  assert.equal(words(await changeLinks(lab, wish("oak", "elm"))), expected.sort());
  const kept = JSON.parse(readFileSync(join(lab.dir, "elm-a", "shaping.json"), "utf8"));
  assert.equal(Object.keys(kept.nic1), ["oak-a", "oak-b"]);
});

test("a NIC that the link does not have, an array with itself -> refused, nothing changed", async ({ lab }) => {
  const refusal = (change: LinkChange) =>
    changeLinks(lab, change).then(
      () => "done",
      (error: Error) => error.message,
    );
  assert.is(
    await refusal(wish("oak-a", "elm", { nic: "ic0" })),
    "oak-a has no NIC ic0 towards elm-a (it has nic0, nic1)",
  );
  assert.is(await refusal(wish("oak-a", "oak-b", { nic: "2" })), "oak-a has no NIC 2 towards oak-b (it has ic0, ic1)");
  assert.match(await refusal(wish("oak", "oak")), "name two appliances");
  assert.not(existsSync(join(lab.dir, "links.json")));
});

function note(lab: Lab, name: string, pid: number): void {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const startTicks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  writeFileSync(join(lab.dir, name, "process.json"), JSON.stringify({ pid, startTicks }));
}

async function run(line: string, dir: string) {
  const child = Bun.spawn([join(root, "scripts", "lab"), ...line.split(" "), "--dir", dir], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

test("killed while it was paused -> resume says fenced dead; killed after it -> only not running", async ({ lab }) => {
  const sleeping = () => Bun.spawn(["sleep", "600"]);
  const first = sleeping();
  note(lab, "oak-a", first.pid);
  assert.is((await run("pause oak-a", lab.dir)).code, 0);
  const state = () => /^\d+ \(sleep\) T /.test(readFileSync(`/proc/${first.pid}/stat`, "utf8")) || null;
  assert.ok(await waitUntil(10_000, 5, state));
  first.kill("SIGKILL");
  await first.exited;
  const fenced = await run("resume oak-a", lab.dir);
  assert.is(fenced.code, 1);
  assert.is(fenced.err, "lab: oak-a was fenced dead while it was paused: scripts/lab start oak-a\n");

  const second = sleeping();
  note(lab, "oak-a", second.pid);
  assert.is((await run("pause oak-a", lab.dir)).code, 0);
  assert.is((await run("resume oak-a", lab.dir)).code, 0);
  second.kill("SIGKILL");
  await second.exited;
  const dead = await run("resume oak-a", lab.dir);
  assert.is(dead.code, 1);
  assert.match(dead.err, "oak-a is not running any more");
});

/** Appliances that answer `GET /v1/status` with what they are told; this process stands for theirs. */
function pretend(lab: Lab, states: Record<string, () => Partial<StatusJson>>): { close(): void } {
  const servers = Object.entries(states).map(([name, stateOf]) => {
    note(lab, name, process.pid);
    return Bun.serve({
      unix: socketOf(lab, name),
      fetch: () => Response.json({ pair: null, groups: [], warnings: [], ...stateOf() }),
    });
  });
  return {
    close: () => {
      for (const server of servers) server.stop(true);
    },
  };
}

const up = (name: string) => ({ appliances: [{ name, state: "up" }] as unknown as StatusJson["appliances"] });
const starting = (name: string) => ({
  appliances: [{ name, state: "starting" }] as unknown as StatusJson["appliances"],
});
const unsettled = [{ name: "demo", settled: false }] as unknown as StatusJson["groups"];
const messageOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "settled",
    (error: Error) => error.message,
  );

test("a standby has settled when it is up and the owner's groups have, as an appliance alone", async ({ lab }) => {
  const pair: PairJson = { state: "mirrored", partner: "oak-a" };
  let isOwnerSettled = false;
  const fakes = pretend(lab, {
    "oak-b": () => ({ ...up("oak-b"), pair, groups: isOwnerSettled ? [] : unsettled }),
    "elm-a": () => ({ ...up("elm-a"), groups: unsettled }),
  });
  try {
    assert.match(await messageOf(whenSettled(lab, "oak-b", 100)), "oak-b is not up after");
    isOwnerSettled = true;
    assert.equal(await whenSettled(lab, "oak-b", 5000), []);
    assert.match(await messageOf(whenSettled(lab, "elm-a", 100)), "elm-a is not up after");
    const { appliances } = await labView(lab);
    assert.equal(
      appliances.map(({ name, state, pair: shown }) => [name, state, shown]),
      [
        ["oak-a", "down", null],
        ["oak-b", "up", pair],
        ["elm-a", "starting", null],
      ],
    );
    assert.match((await run("status", lab.dir)).out, "pair with oak-a: mirrored\n");
  } finally {
    fakes.close();
  }
});

test("one partner is up -> it answers for the array; the pair is whole only when mirrored", async ({ lab }) => {
  const [oak] = lab.site.arrays;
  let isOwnerUp = false;
  let pairState: PairJson["state"] = "degraded";
  const pairOf = (partner: string) => ({ state: pairState, partner });
  const fakes = pretend(lab, {
    "oak-a": () => ({ ...(isOwnerUp ? up("oak-a") : starting("oak-a")), pair: pairOf("oak-b") }),
    "oak-b": () => ({ ...up("oak-b"), pair: pairOf("oak-a") }),
    "elm-a": () => up("elm-a"),
  });
  try {
    assert.is(await whenOneSettled(lab, oak!, timeLeft(5000)), "oak-b");
    assert.match(await messageOf(whenWhole(lab, timeLeft(100))), "oak-a is not up after");
    isOwnerUp = true;
    assert.is(await whenOneSettled(lab, oak!, timeLeft(5000)), "oak-a");
    assert.is(
      await messageOf(whenWhole(lab, timeLeft(200))),
      "oak is not mirrored in time (degraded): scripts/lab logs oak-a",
    );
    pairState = "mirrored";
    await whenWhole(lab, timeLeft(5000));
  } finally {
    fakes.close();
  }
});

test("no partner lives -> ended, not waited for", async ({ lab }) => {
  const [oak] = lab.site.arrays;
  assert.match(await messageOf(whenOneSettled(lab, oak!, timeLeft(60_000))), "oak-a has ended");
});

test.run();
