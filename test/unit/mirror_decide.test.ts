import { suite } from "uvu";
import * as assert from "uvu/assert";
import { canConfirm, type Decision, decide } from "../../firmware/mirror/decide.ts";
import { type PeerEntry, peerEntry } from "../../firmware/mirror/document.ts";
import type { Hello } from "../../firmware/peer/frame.ts";

const test = suite("mirror_decide");

const id = (digit: string) => digit.repeat(32);

/** `a1 b5 @9/7` = timeline a from 1, b from 5, head 9, committed 7. */
function stand(array: string, role: "primary" | "golden", log: string, more: Partial<Hello> = {}): Hello {
  const [entries, seqs] = log.split("@") as [string, string];
  const lineage = entries
    .trim()
    .split(/\s+/)
    .filter((entry) => entry !== "")
    .map((entry) => ({ timeline: id(entry[0]!), firstSeq: Number(entry.slice(1)) }));
  const [head, commit] = seqs.split("/").map(Number) as [number, number | undefined];
  return {
    kind: "hello",
    version: 1,
    versionMin: 1,
    features: 0,
    array,
    arrayId: id("0"),
    appliance: `${array}-a`,
    session: id("0"),
    groupId: id("0"),
    groupName: "demo",
    role,
    writable: role === "primary",
    primary: role === "golden" ? "oak" : null,
    lineage,
    headSeq: head,
    persistedSeq: head,
    commitSeq: commit ?? head,
    destagedSeq: 0,
    consistent: true,
    resync: null,
    promotableSeq: head,
    peers: [],
    grant: null,
    acceptedGrant: null,
    whyStopped: null,
    wantsResync: false,
    completedResync: null,
    recordPayloadBytes: 262144,
    ...more,
  };
}

interface Options {
  readonly peer?: PeerEntry | null;
  readonly keptFrom?: number;
  readonly primaryIsHeard?: boolean;
}

function meeting(ours: Hello, theirs: Hello, options: Options = {}): Decision {
  return decide({
    ours,
    theirs,
    peer: options.peer === undefined ? peerEntry(theirs.array, "async") : options.peer,
    canStreamFrom: (seq) => seq >= (options.keptFrom ?? 0),
    primaryIsHeard: options.primaryIsHeard ?? false,
  });
}

/** One line per decision, as a transcript shows it. */
function line(decision: Decision): string {
  switch (decision.kind) {
    case "stream": {
      const extra = [
        decision.drops ? "drops" : "",
        decision.resumes ? "resumes" : "",
        decision.completes ? "completes" : "",
      ];
      return ["stream", String(decision.fromSeq), ...extra.filter((part) => part !== "")].join(" ");
    }
    case "follow":
      return decision.adopts ? "follow adopts" : "follow";
    case "superseded":
      return `superseded ${decision.forkSeq} ours+${decision.oursBeyond}`;
    case "supersedes":
      return `supersedes ${decision.forkSeq} theirs+${decision.theirsBeyond}`;
    case "diverged":
      return `diverged ${decision.forkSeq} ours+${decision.oursBeyond} theirs+${decision.theirsBeyond}`;
    case "idle":
      return `idle ${decision.reason}`;
    default:
      return decision.kind;
  }
}

const resync = (idOf: string | null): PeerEntry => ({
  ...peerEntry("elm", "async"),
  resync: { what: "everything", id: idOf, volumes: [] },
});
const unwritable = { writable: false };
const position = (begun: boolean) => ({ id: id("c"), begun, nextVolume: 1, nextBlock: 5 });

const rows: [string, Hello, Hello, Options, string][] = [
  // Primary and golden copy.
  ["a prefix", stand("oak", "primary", "a1@9"), stand("elm", "golden", "a1@7"), {}, "stream 7"],
  ["equal", stand("oak", "primary", "a1@9"), stand("elm", "golden", "a1@9"), {}, "stream 9"],
  ["empty, and the log is whole", stand("oak", "primary", "a1@9"), stand("elm", "golden", "@0"), {}, "stream 0"],
  [
    "empty, and the log is short",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "@0"),
    { keptFrom: 3 },
    "resync",
  ],
  [
    "a prefix of an older timeline",
    stand("oak", "primary", "a1 b8@12"),
    stand("elm", "golden", "a1@5"),
    {},
    "stream 5",
  ],
  [
    "beyond its commitSeq on a dropped branch",
    stand("oak", "primary", "a1 b8@12"),
    stand("elm", "golden", "a1@10/6"),
    {},
    "stream 7 drops",
  ],
  [
    "committed on a dropped branch",
    stand("oak", "primary", "a1 b8@12"),
    stand("elm", "golden", "a1@10/9"),
    {},
    "diverged 7 ours+5 theirs+3",
  ],
  [
    "ahead of an unconfirmed primary, uncommitted",
    stand("oak", "primary", "a1@9", unwritable),
    stand("elm", "golden", "a1@11/9"),
    {},
    "stream 9 drops",
  ],
  [
    "ahead of an unconfirmed primary, committed",
    stand("oak", "primary", "a1@9", unwritable),
    stand("elm", "golden", "a1@11"),
    {},
    "idle peer-ahead",
  ],
  [
    "nothing in common",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "b1@9"),
    {},
    "diverged null ours+null theirs+null",
  ],
  [
    "it follows another",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { primary: "ash" }),
    {},
    "idle follows-other",
  ],
  [
    "not one of our peers",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7"),
    { peer: null },
    "idle not-a-peer",
  ],
  [
    "a smaller cache",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { recordPayloadBytes: 65536 }),
    {},
    "idle cache-too-small",
  ],
  [
    "it refuses the stream",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { whyStopped: "corrupt" }),
    {},
    "idle stopped-there",
  ],
  [
    "stopped here",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7"),
    { peer: { ...peerEntry("elm", "async"), stopped: "mismatch" } },
    "idle stopped-here",
  ],
  [
    "diverged before",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7"),
    { peer: { ...peerEntry("elm", "async"), stopped: "diverged" } },
    "diverged 7 ours+2 theirs+0",
  ],
  // Resync.
  [
    "everything is to be sent",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7"),
    { peer: resync(null) },
    "resync",
  ],
  [
    "it asks for everything, salvaged",
    stand("oak", "primary", "a1 b5@9"),
    stand("elm", "golden", "a1@7", { wantsResync: true }),
    {},
    "resync",
  ],
  [
    "a mixture of no resync",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { consistent: false }),
    {},
    "resync",
  ],
  [
    "in our resync, begun",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { consistent: false, resync: position(true) }),
    { peer: resync(id("c")) },
    "stream 7 resumes",
  ],
  [
    "in our resync, not begun",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { consistent: false, resync: position(false) }),
    { peer: resync(id("c")) },
    "resync",
  ],
  [
    "in an older resync",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { consistent: false, resync: position(true) }),
    { peer: resync(id("d")) },
    "resync",
  ],
  [
    "in our resync, the log too short",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { consistent: false, resync: position(true) }),
    { peer: resync(id("c")), keptFrom: 8 },
    "resync",
  ],
  [
    "our resync has ended there",
    stand("oak", "primary", "a1@9"),
    stand("elm", "golden", "a1@7", { completedResync: id("c") }),
    { peer: resync(id("c")) },
    "stream 7 completes",
  ],
  // Golden copy and primary.
  ["the one we follow", stand("elm", "golden", "a1@7"), stand("oak", "primary", "a1@9"), {}, "follow"],
  [
    "another, ours is silent and it continues us",
    stand("ash", "golden", "a1@7"),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "follow adopts",
  ],
  [
    "another, ours is heard",
    stand("ash", "golden", "a1@7"),
    stand("elm", "primary", "a1 b8@9"),
    { primaryIsHeard: true },
    "idle follows-other",
  ],
  [
    "another, on our very timeline",
    stand("ash", "golden", "a1@7"),
    stand("elm", "primary", "a1@9"),
    {},
    "idle follows-other",
  ],
  [
    "another, which lacks what we have committed",
    stand("ash", "golden", "a1@9"),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "idle follows-other",
  ],
  [
    "another, not in force",
    stand("ash", "golden", "a1@7"),
    stand("elm", "primary", "a1 b8@9", unwritable),
    {},
    "idle follows-other",
  ],
  ["two golden copies", stand("ash", "golden", "a1@7"), stand("elm", "golden", "a1@9"), {}, "idle no-primary"],
  // Two primaries.
  [
    "theirs is newer, we have nothing beyond",
    stand("oak", "primary", "a1@7", unwritable),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "superseded 7 ours+0",
  ],
  [
    "theirs is newer, we have more",
    stand("oak", "primary", "a1@9", unwritable),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "superseded 7 ours+2",
  ],
  [
    "theirs is newer, we are writable with nothing",
    stand("oak", "primary", "a1@7"),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "superseded 7 ours+0",
  ],
  [
    "theirs is newer, we are writable with more",
    stand("oak", "primary", "a1@9"),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "diverged 7 ours+2 theirs+2",
  ],
  [
    "ours is newer",
    stand("elm", "primary", "a1 b8@9"),
    stand("oak", "primary", "a1@9", unwritable),
    {},
    "supersedes 7 theirs+2",
  ],
  [
    "ours is newer, theirs is writable with more",
    stand("elm", "primary", "a1 b8@9"),
    stand("oak", "primary", "a1@9"),
    {},
    "diverged 7 ours+2 theirs+2",
  ],
  [
    "both continue",
    stand("oak", "primary", "a1 c8@9"),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "diverged 7 ours+2 theirs+2",
  ],
  [
    "neither continues, they are writable",
    stand("oak", "primary", "a1@7", unwritable),
    stand("elm", "primary", "a1@9"),
    {},
    "superseded 7 ours+0",
  ],
  [
    "neither continues, none is writable",
    stand("oak", "primary", "a1@7", unwritable),
    stand("elm", "primary", "a1@9", unwritable),
    {},
    "idle two-primaries",
  ],
  [
    "nothing in common, two primaries",
    stand("oak", "primary", "a1@7"),
    stand("elm", "primary", "b1@9"),
    {},
    "diverged null ours+null theirs+null",
  ],
  // Grants.
  [
    "we gave it the role",
    stand("oak", "primary", "a1@7", { writable: false, grant: { id: id("d"), to: "elm", timeline: id("a"), seq: 7 } }),
    stand("elm", "golden", "a1@7"),
    {},
    "offerGrant",
  ],
  [
    "we gave it the role, and it follows another",
    stand("oak", "primary", "a1@7", {
      writable: false,
      grant: { id: id("d"), to: "elm", timeline: id("a"), seq: 7 },
    }),
    stand("elm", "golden", "a1@7", { primary: "ash", acceptedGrant: id("e") }),
    {},
    "idle follows-other",
  ],
  [
    "it has accepted and given it on",
    stand("oak", "primary", "a1@7", { writable: false, grant: { id: id("d"), to: "elm", timeline: id("a"), seq: 7 } }),
    stand("elm", "golden", "a1@7", { acceptedGrant: id("d"), primary: "ash" }),
    {},
    "grantTaken",
  ],
  [
    "it is primary by our grant",
    stand("oak", "primary", "a1@7", { writable: false, grant: { id: id("d"), to: "elm", timeline: id("a"), seq: 7 } }),
    stand("elm", "primary", "a1 b8@9"),
    {},
    "grantTaken",
  ],
  [
    "the role was given to another",
    stand("oak", "primary", "a1@7", { writable: false, grant: { id: id("d"), to: "ash", timeline: id("a"), seq: 7 } }),
    stand("elm", "golden", "a1@7"),
    {},
    "idle granted-elsewhere",
  ],
  [
    "its grant to us is on its way",
    stand("elm", "primary", "a1 b8@9"),
    stand("oak", "primary", "a1@7", { writable: false, grant: { id: id("d"), to: "elm", timeline: id("a"), seq: 7 } }),
    {},
    "idle grant-comes",
  ],
];

for (const [what, ours, theirs, options, expected] of rows) {
  test(`${ours.array} ${ours.role} meets ${theirs.array} ${theirs.role}: ${what} -> ${expected}`, () => {
    assert.is(line(meeting(ours, theirs, options)), expected);
  });
}

test("a lineage sent without its oldest entries -> compared from where both have it", () => {
  const ours = stand("oak", "primary", "a1 b8 c20@30");
  const theirs = stand("elm", "golden", "b8 c20@25");
  assert.is(line(meeting(ours, theirs)), "stream 25");
  assert.is(line(meeting(stand("elm", "golden", "b8@15"), stand("oak", "primary", "a1 b8 c20@30"))), "follow");
});

test("who can confirm -> a copy that follows, an ex-primary that gave way, nobody else", () => {
  const oak = stand("oak", "primary", "a1@9", unwritable);
  const confirms = (theirs: Hello, options: Options = {}) => canConfirm(meeting(oak, theirs, options), theirs);
  assert.ok(confirms(stand("elm", "golden", "a1@7")));
  assert.ok(confirms(stand("elm", "golden", "a1@7", { consistent: false })));
  assert.ok(confirms(stand("elm", "golden", "a1@7", { whyStopped: "corrupt" })));
  assert.not(confirms(stand("elm", "golden", "a1@11")), "it holds what we have lost");
  assert.not(confirms(stand("elm", "golden", "a1@7", { primary: "ash" })));
  assert.not(confirms(stand("elm", "primary", "a1 b8@9")));
  const newer = stand("elm", "primary", "a1 b8@9", unwritable);
  const exPrimary = stand("oak", "primary", "a1@9", unwritable);
  assert.ok(canConfirm(meeting(newer, exPrimary), exPrimary));
});

test.run();
