// The token is in the fragment, which no browser sends: only this POST does, once, when the person says so.
const fragment = new URLSearchParams(location.hash.slice(1));
const token = fragment.get("token");
const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
const refusal = document.querySelector("[role=alert]");
const button = form.querySelector("button");

if (form.username) form.username.value = fragment.get("email") ?? "";
if (token) {
  button.disabled = false;
} else {
  refusal.textContent = "This link is not complete. Copy all of it from the mail.";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  refusal.textContent = "";
  status.textContent = "One moment…";
  const body = { token };
  if (form.password) body.password = form.password.value;
  try {
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      form.remove();
      status.textContent = "Done.";
      document.querySelector("#on").hidden = false;
      return;
    }
    const problem = await answer.json();
    refusal.textContent = problem.code === "password_refused" ? problem.detail : `${problem.title}.`;
    button.disabled = answer.status !== 422 && answer.status < 500 && answer.status !== 429;
  } catch {
    refusal.textContent = "That did not reach us. Please try again.";
    button.disabled = false;
  }
  status.textContent = "";
});
