/**
 * A pair in network namespaces: a host that knows one address, which moves with the array, loses nothing that was acknowledged to it while
 * the owner is killed, hands over, hangs, and comes back.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { labUp } from "../../scripts/benchmarks/bench_lab.ts";
import { otherOf, PairSite, type Partner, type PathProtocol, partners } from "../../scripts/benchmarks/pair_site.ts";
import { mixedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import { hostInterface, serviceAddress } from "../../scripts/lab_site/addresses.ts";
import { namespaceTrouble, readHolders } from "../../scripts/lab_site/namespaces.ts";
import { networkWords } from "../../scripts/lab_site/network.ts";
import { stillLiving } from "../../scripts/lab_site/proc.ts";
import { pathIn } from "../../scripts/lab_site/site.ts";
import type { LabView } from "../../scripts/lab_site/views.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { type Ran, run, runOk, testUnless } from "./support/clients.ts";
import { SinglePathHost } from "./support/single_path_host.ts";

const test = suite("lab_netns");
const root = join(import.meta.dir, "../..");
const hindrance = namespaceTrouble();

const sizeBytes = 16 * 1024 ** 2;
const answers = 1500;
const conditionLimitMs = 30_000;

let dir = "";
let site: PairSite;
let service = "";

test.before(async () => {
  if (hindrance !== null) return;
  dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "goldcopy-netns-"));
  site = new PairSite(await labUp(join(dir, "lab"), ["--netns", "--profile", "pair"]));
  service = serviceAddress(site.lab, "oak") ?? "";
});
test.after(async () => {
  if (hindrance !== null) return;
  await site?.down();
  rmSync(dir, { recursive: true, force: true });
});

const lab = (verb: string, ...words: string[]): Promise<Ran> =>
  run(join(root, "scripts", "lab"), [verb, "--dir", site.lab.dir, ...words]);

/** Where hosts are, or where an appliance is. */
async function inNetwork(place: Partner | "client", ...command: string[]): Promise<Ran> {
  const [program, ...args] = [...networkWords(site.lab, place === "client" ? null : place), ...command];
  return await run(program!, args);
}

async function ipJson<T>(place: Partner | "client", ...words: string[]): Promise<T> {
  const { stdout, stderr } = await inNetwork(place, "ip", "-json", ...words);
  assert.ok(stdout.startsWith("["), `ip ${words.join(" ")}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

interface Interface {
  readonly address: string;
  readonly addr_info: readonly { readonly local: string; readonly label?: string }[];
}

async function interfaceOf(partner: Partner): Promise<Interface> {
  return (await ipJson<Interface[]>(partner, "address", "show", "dev", hostInterface))[0]!;
}

const hasService = ({ addr_info }: Interface): boolean => addr_info.some(({ local }) => local === service);

/** To whose interface hosts send what is for the service address. */
async function neighbour(): Promise<string | undefined> {
  const [entry] = await ipJson<{ lladdr?: string }[]>("client", "neighbour", "show", service);
  return entry?.lladdr;
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  assert.ok(await waitUntil(conditionLimitMs, 20, async () => ((await isSo()) ? true : null)), what);
}

/** Hosts send to the owner, and nobody else has the address for long. */
async function isAt(owner: Partner): Promise<void> {
  const { address, ...own } = await interfaceOf(owner);
  assert.ok(hasService({ address, ...own }), `${owner} owns and has not ${service}`);
  assert.is(await neighbour(), address);
  await until(`${otherOf(owner)} has ${service} no more`, async () => !hasService(await interfaceOf(otherOf(owner))));
}

const urlOf = (protocol: PathProtocol): string => {
  const { iqn } = site.find("oak-a");
  return protocol === "nbd" ? `nbd://${service}:10809/demo-1` : `iscsi://${service}:3260/${iqn}/0`;
};

/** On a machine that is busy otherwise a partner may be lost in the midst of it: then it is asked for again. */
async function handOver(): Promise<void> {
  const to = otherOf(await site.mirrored());
  await until(`${to} owns`, async () => {
    if ((await site.mirrored()) !== to) await site.handOver().catch(() => {});
    return (await site.owner()) === to;
  });
}

/** Does `blows` under the load of a host with one path, then reads everything. Returns the breaks of its path. */
async function underLoad(
  protocol: PathProtocol,
  blows: (host: SinglePathHost, owner: Partner) => Promise<void>,
): Promise<number> {
  const owner = await site.repair();
  const host = await SinglePathHost.start(site.lab.dir, { ...mixedLoad, sizeBytes, urls: [urlOf(protocol)] });
  try {
    await host.more(answers);
    await isAt(owner);
    await blows(host, owner);
    await host.more(answers);
    const { violations, errors, told, breaks } = await host.finish();
    assert.equal(violations, { lostWrites: 0, staleReads: 0, wrongBytes: 0 }, told.join("; "));
    assert.is(errors, 0, told.join("; "));
    return breaks;
  } finally {
    host.stop();
  }
}

function report(protocol: PathProtocol, what: string, ms: number): void {
  process.stdout.write(`\n  ${protocol}, ${what}: the host waited ${ms.toFixed(0)} ms`);
}

for (const protocol of ["nbd", "iscsi"] as const) {
  const title = `one address over ${protocol}: the owner is killed, hands over, gets it back, hangs -> every acknowledged write is found`;
  testUnless(test, hindrance, title, async () => {
    let toldInTime = 0;
    const breaks = await underLoad(protocol, async (host, first) => {
      const lost = async (what: string, owner: Partner, blow: () => Promise<unknown>) => {
        report(protocol, what, await host.during(blow, answers));
        // The host has been told, and has not found the new owner for want of the old one.
        if (hasService(await interfaceOf(owner))) toldInTime++;
        assert.is(await site.repair(), otherOf(owner));
        await isAt(otherOf(owner));
      };
      const second = otherOf(first);
      await lost("killed", first, () => site.kill(first));
      for (const to of [first, second]) {
        report(protocol, "handed over", await host.during(handOver, answers));
        await isAt(to);
        assert.is(await site.mirrored(), to);
      }
      await lost("paused", second, () => lab("pause", second));
      await lab("stop", first);
      await host.more(answers);
      await isAt(second);
    });
    assert.ok(toldInTime > 0, "no host was told of the new owner while the dead one had the address still");
    assert.ok(breaks >= 5, `the path broke ${breaks} times in five moves`);
  });
}

testUnless(
  test,
  hindrance,
  "the standby dies, the interconnect is cut -> the address stays, no session breaks",
  async () => {
    const breaks = await underLoad("nbd", async (host, owner) => {
      await site.kill(otherOf(owner));
      await host.more(answers);
      await isAt(owner);
      await site.repair();
      await site.bench.run(["cut", "oak-a", "oak-b"]);
      await until("noticed", async () => (await site.pairOf(otherOf(owner)))?.state === "isolated");
      await host.more(answers);
      await isAt(owner);
      await site.bench.run(["join", "oak-a", "oak-b"]);
      assert.is(await site.mirrored(), owner);
    });
    assert.is(breaks, 0);
  },
);

testUnless(
  test,
  hindrance,
  "a host asks for the address while the dead owner has it still -> it reaches the one that lives; the dead one's goes by itself",
  async () => {
    const owner = await site.repair();
    const living = otherOf(owner);
    await site.kill(owner);
    assert.is(await site.owner(), living);
    const asks = async () => {
      await inNetwork("client", "ip", "neighbour", "flush", "to", service);
      return (await inNetwork("client", "nbdinfo", "--size", `nbd://${service}:10809/demo-1`)).code === 0;
    };
    await until("reached", asks);
    await until(`${service} is gone`, async () => !hasService(await interfaceOf(owner)));
    assert.ok(await asks());
    assert.is(await neighbour(), (await interfaceOf(living)).address);
    assert.is(await site.repair(), living);
  },
);

testUnless(test, hindrance, "both are killed, and one starts -> the address is where it is owned", async () => {
  await site.repair();
  await Promise.all(partners.map((partner) => site.kill(partner)));
  assert.is((await lab("start", "oak-b")).code, 0);
  assert.is(await site.owner(), "oak-b");
  assert.is((await inNetwork("client", "nbdinfo", "--size", `nbd://${service}:10809/demo-1`)).code, 0);
  await isAt("oak-b");
  assert.is(await site.repair(), "oak-b");
});

testUnless(
  test,
  hindrance,
  "status -> addresses of the lab's network, and where the array is reached wherever it is",
  async () => {
    const view = JSON.parse((await lab("status", "--json")).stdout) as LabView;
    assert.is(view.network, "netns");
    const [a, b, elm] = view.appliances;
    assert.equal(
      [a, b, elm].map((appliance) => [appliance?.nbd, appliance?.iscsi]),
      [11, 12, 13].map((last) => [`nbd://192.0.2.${last}:10809`, `192.0.2.${last}:3260`]),
    );
    const iqn = "iqn.2026-11.org.goldcopy:oak";
    assert.equal(view.services, [{ array: "oak", nbd: `nbd://${service}:10809`, iscsi: `${service}:3260`, iqn }]);
    // Each appliance's portals are a group of their own; the one that moves is the same group at either.
    const portals = [`${service}:3260,3`, "192.0.2.11:3260,1", "192.0.2.12:3261,2"];
    for (let owners = 0; owners < 2; owners++) {
      const { stdout } = await inNetwork("client", "iscsi-ls", `iscsi://${service}:3260`);
      for (const portal of portals) assert.is(stdout.split(`Portal:${portal}\n`).length, 2, `${portal} in ${stdout}`);
      await handOver();
    }
  },
);

testUnless(
  test,
  hindrance,
  "exec -> the command's exit code; without one, or with an unknown appliance, a line of help",
  async () => {
    const ran = await lab("exec", "--", "sh", "-c", "ip -brief link show hosts; exit 7", "--json");
    assert.is(ran.code, 7);
    assert.match(ran.stdout, /^hosts +UP/);
    assert.match((await lab("exec", "--in", "elm-a", "--", "ip", "address")).stdout, " 192.0.2.13/24 ");
    const without = await lab("exec");
    assert.equal([without.code, without.stderr], [2, "lab: say which command: scripts/lab exec -- CMD\n"]);
    assert.match((await lab("exec", "--in", "ash-a", "--", "true")).stderr, "there is no appliance ash-a");
  },
);

const capabilities = [
  { drop: "net_admin", text: /may not change addresses on host0 \(CAP_NET_ADMIN is missing\); start it as root/ },
  {
    drop: "net_raw",
    text: /may not tell neighbours of addresses on host0 \(CAP_NET_RAW is missing\); start it as root/,
  },
] as const;

testUnless(
  test,
  hindrance,
  "an appliance that may not move addresses, or has no such interface -> it does not start",
  async () => {
    const owner = await site.repair();
    const standby = otherOf(owner);
    await site.kill(standby);
    const program = join(root, "firmware", "main.ts");
    const profile = pathIn(site.lab, standby, "profile.toml");
    for (const { drop, text } of capabilities) {
      const command = ["setpriv", "--bounding-set", `-${drop}`, "--", process.execPath, program, "--profile", profile];
      const { code, stderr } = await inNetwork(standby, ...command);
      assert.is(code, 1, stderr);
      assert.match(stderr, text);
    }
    const other = join(dir, "other.toml");
    writeFileSync(other, readFileSync(profile, "utf8").replace(`"${hostInterface}"`, '"host7"'));
    const { code, stderr } = await inNetwork(standby, process.execPath, program, "--profile", other);
    assert.is(code, 1);
    assert.is(
      stderr,
      `goldcopy: ${service}: interface host7 does not exist (ENODEV); correct [[service]] interface in the profile\n`,
    );
    assert.is(await site.repair(), owner);
  },
);

testUnless(test, hindrance, "down -> nothing of the network is left; up -> it is there again", async () => {
  const held = Object.values(readHolders(site.lab.dir)!.processes);
  assert.is(held.length, 4);
  assert.is((await lab("down")).code, 0);
  assert.ok(held.every((one) => stillLiving(one) === null));
  assert.is(readHolders(site.lab.dir), null);
  assert.match(
    (await lab("exec", "--", "true")).stderr,
    "the lab's network is not there: scripts/lab down, then scripts/lab up",
  );
  await runOk(join(root, "scripts", "lab"), ["up", "--dir", site.lab.dir]);
  assert.is((await inNetwork("client", "nbdinfo", "--size", `nbd://${service}:10809/demo-1`)).code, 0);
});

const isRoot = process.getuid?.() === 0;
const notRoot = hindrance ?? (isRoot ? null : "only root can take a capability away from itself");

testUnless(test, notRoot, "where namespaces are not allowed -> exit 1 with one line, and nothing is made", async () => {
  const elsewhere = join(dir, "refused");
  const words = [
    "--bounding-set",
    "-sys_admin",
    "--",
    join(root, "scripts", "lab"),
    "up",
    "--netns",
    "--dir",
    elsewhere,
  ];
  const { code, stderr } = await run("setpriv", words);
  assert.is(code, 1);
  assert.match(stderr, /^lab: --netns: this machine has no network namespaces for it \(.*not permitted.*\): [^\n]*\n$/);
  assert.not(existsSync(elsewhere));
});

test.run();
