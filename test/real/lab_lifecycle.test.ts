/** A lab of real appliances through its whole life. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GroupJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { canWrite, isReadOnly } from "../../scripts/lab_demo/hosts.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";

const root = join(import.meta.dir, "../..");

interface View {
  name: string;
  pid: number | null;
  state: string;
  at: string;
  nbd: string;
  nbdPortals: string[];
  array: string;
  iscsi: string | null;
  iscsiPortals: string[];
  iqn: string | null;
}
interface Context {
  dir: string;
}
const test = suite<Context>("lab_lifecycle");

test.before((context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-lab-"));
});
test.after(async ({ dir }) => {
  await run("lab", "down --wipe", dir);
  rmSync(dir, { recursive: true, force: true });
});

async function run(script: "lab" | "goldcopy", words: string, dir: string, env: Record<string, string> = {}) {
  const args = script === "lab" ? ["--dir", join(dir, "lab")] : [];
  const child = Bun.spawn([join(root, "scripts", script), ...words.split(" "), ...args], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...env },
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** Runs a lab command that must succeed, and reads its JSON. */
async function lab<T>(words: string, dir: string): Promise<T> {
  const { code, out, err } = await run("lab", `${words} --json`, dir);
  assert.is(code, 0, `lab ${words}: ${err}${out}`);
  return JSON.parse(out) as T;
}

async function views(dir: string): Promise<Record<string, View>> {
  const { appliances } = await lab<{ appliances: View[] }>("status", dir);
  return Object.fromEntries(appliances.map((appliance) => [appliance.name, appliance]));
}

async function demoAt(dir: string, name: string): Promise<GroupJson> {
  const at = (await views(dir))[name]!.at;
  const { code, out, err } = await run("goldcopy", "status --json", dir, { GOLDCOPY_AT: at });
  assert.is(code, 0, err);
  return (JSON.parse(out) as StatusJson).groups.find((group) => group.name === "demo")!;
}

async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  const reached = await waitUntil(30_000, 50, async () => ((await probe()) ? true : null));
  assert.ok(reached, what);
}

let portals: string[] = [];

test("up on nothing -> both arrays up, elm in sync and read-only, oak writable", async ({ dir }) => {
  const { appliances } = await lab<{ appliances: View[] }>("up --profile single", dir);
  assert.equal(
    appliances.map(({ name, state }) => [name, state]),
    [
      ["oak-a", "up"],
      ["elm-a", "up"],
    ],
  );
  const [oak, elm] = appliances as [View, View];
  portals = [...oak.nbdPortals, ...elm.nbdPortals];
  assert.is(portals.length, 4);
  for (const { array, iscsi, iscsiPortals, iqn } of [oak, elm]) {
    assert.is(iscsiPortals.length, 2);
    assert.is(iscsi, iscsiPortals[0]);
    assert.is(iqn, `iqn.2026-11.org.goldcopy:${array}`);
  }
  for (const portal of oak.nbdPortals) {
    assert.ok(await canWrite(`${portal}/demo-1`));
    assert.is(await isReadOnly(`${portal}/demo-2`), false);
  }
  assert.is(await isReadOnly(`${elm.nbd}/demo-1`), true);
  assert.not(await canWrite(`${elm.nbd}/demo-2`));
  const group = await demoAt(dir, "oak-a");
  assert.is(group.role, "primary");
  assert.is(group.writable, true);
  assert.equal(group.volumes, ["demo-1", "demo-2"]);
  assert.is(group.peers[0]?.array, "elm");
  assert.is(group.peers[0]?.mode, "async");
});

test("up again -> nothing changes; other wishes -> refused", async ({ dir }) => {
  const before = await views(dir);
  await lab("up", dir);
  assert.equal(await views(dir), before);
  assert.is((await run("lab", "up --persistence flush", dir)).code, 1);
});

test("kill and start -> down, then the same endpoints; every role settled", async ({ dir }) => {
  await lab("kill oak-a", dir);
  const dead = (await views(dir))["oak-a"]!;
  assert.is(dead.state, "down");
  assert.is(dead.pid, null);
  const { groups } = await lab<{ groups: Partial<GroupJson>[] }>("start oak-a", dir);
  assert.is(groups.length, 1);
  assert.equal(groups[0], { name: "demo", role: "primary", writable: true, why: null });
  const after = await views(dir);
  assert.equal([...after["oak-a"]!.nbdPortals, ...after["elm-a"]!.nbdPortals], portals);
  assert.ok(await canWrite(`${after["oak-a"]!.nbd}/demo-1`));
  assert.is((await run("lab", "kill ash-a", dir)).code, 1);
});

test("pause and resume -> paused, then up; a dead process cannot be resumed", async ({ dir }) => {
  await lab("pause elm-a", dir);
  assert.is((await views(dir))["elm-a"]!.state, "paused");
  await lab("resume elm-a", dir);
  await until("elm-a is up", async () => (await views(dir))["elm-a"]!.state === "up");
  await lab("stop elm-a", dir);
  assert.is((await views(dir))["elm-a"]!.state, "down");
  assert.is((await run("lab", "resume elm-a", dir)).code, 1);
  assert.is((await run("lab", "pause elm-a", dir)).code, 1);
  await lab("start elm-a", dir);
  await until("elm is in sync", async () => (await demoAt(dir, "oak-a")).peers[0]?.state === "in-sync");
});

test("cut -> noticed, and still cut after a restart: the ex-primary is not writable; join -> in sync again", async ({
  dir,
}) => {
  await lab("cut oak elm", dir);
  await until("oak notices", async () => (await demoAt(dir, "oak-a")).peers[0]?.state === "disconnected");
  assert.is((await demoAt(dir, "elm-a")).state, "consistent");
  await lab("stop oak-a", dir);
  const { groups } = await lab<{ groups: GroupJson[] }>("start oak-a", dir);
  assert.is(groups[0]?.role, "primary");
  assert.is(groups[0]?.writable, false);
  assert.type(groups[0]?.why, "string");
  await lab("join oak elm", dir);
  await until("oak is confirmed", async () => (await demoAt(dir, "oak-a")).writable);
  await until("elm is in sync", async () => (await demoAt(dir, "oak-a")).peers[0]?.state === "in-sync");
});

test("battery fault -> shown and written through; good again -> write-back", async ({ dir }) => {
  const { at, nbd } = (await views(dir))["oak-a"]!;
  await lab("fault oak-a battery on", dir);
  const shown = JSON.parse((await run("goldcopy", "cache list --json", dir, { GOLDCOPY_AT: at })).out);
  assert.is(shown[0].battery, "failed");
  assert.is(shown[0].mode, "write-through");
  assert.ok(await canWrite(`${nbd}/demo-1`));
  await lab("fault oak-a battery off", dir);
  await until("write-back again", async () => {
    const [cache] = JSON.parse((await run("goldcopy", "cache list --json", dir, { GOLDCOPY_AT: at })).out);
    return cache.battery === "good" && cache.mode === "write-back";
  });
});

test("down and up -> the same lab; down --wipe -> nothing is left", async ({ dir }) => {
  await lab("down", dir);
  const stopped = await views(dir);
  assert.ok(Object.values(stopped).every(({ state }) => state === "down"));
  const { appliances } = await lab<{ appliances: View[] }>("up --profile single", dir);
  assert.ok(appliances.every(({ state }) => state === "up"));
  assert.equal(
    appliances.flatMap(({ nbdPortals }) => nbdPortals),
    portals,
  );
  const pids = appliances.map(({ pid }) => pid!);
  await lab("down --wipe", dir);
  for (const pid of pids) assert.not(existsSync(`/proc/${pid}/fd`) && readdirSync(`/proc/${pid}/fd`).length > 0);
  assert.not(existsSync(join(dir, "lab")));
});

test.run();
