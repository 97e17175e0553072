/** One question, asked of one policy. */
import { type Policy, PolicyTestCase_Outcome as Outcome, type TestPolicyResponse } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { policies } from "../api";
import { lines } from "../grant/decide";
import { useChange } from "../hooks";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { FaultNotice, Notice } from "../parts/notice";
import { open, sentence } from "../words/text";

export function TestQuestion({ policy }: { readonly policy: Policy }) {
  const [principal, setPrincipal] = useState("user:alice@example.com");
  const [groups, setGroups] = useState(policy.eligible?.groups.join("\n") ?? "");
  const [resource, setResource] = useState("");
  const [action, setAction] = useState(policy.actions.find((each) => !each.includes("*")) ?? "");
  const [answer, setAnswer] = useState<TestPolicyResponse>();
  const ask = useChange(async (given: { principal: string; groups: string[]; resources: string[]; actions: string[]; justification: string }) => {
    setAnswer(await policies.testPolicy({ name: policy.name, cases: [given] }));
  });
  const result = answer?.results[0];
  return (
    <section>
      <h2>Test a question</h2>
      <form onSubmit={(event) => { event.preventDefault(); void ask.make({ principal, groups: lines(groups), resources: lines(resource), actions: lines(action), justification: "a test" }); }}>
        <TextField label="Who asks" value={principal} onText={setPrincipal} required wrong={wrongIn(ask.fault, "cases[0].principal")} />
        <AreaField label="Their groups" value={groups} onText={setGroups} help="One a line." />
        <TextField label="Resource" value={resource} onText={setResource} required wrong={wrongIn(ask.fault, "cases[0].resources")} />
        <TextField label="Action" value={action} onText={setAction} required wrong={wrongIn(ask.fault, "cases[0].actions")} />
        <FaultNotice fault={ask.fault} />
        <div class="actions"><button type="submit" class="go" disabled={ask.isBusy}>Test</button></div>
      </form>
      {result ? (
        <Notice tone={result.outcome === Outcome.REFUSED ? "bad" : "good"}>
          {sentence(Outcome[result.outcome])}{result.steps.length > 0 ? `, by step ${result.steps.join(", ")}` : ""} {open(result.message)} <span class="reason">{result.reason}</span>
        </Notice>
      ) : null}
    </section>
  );
}
