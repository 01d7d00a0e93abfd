"""One person at the page: what they do there, and what they see."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Locator, Page, expect


class Person:
    """A tab of its own, at `url`. What went wrong in it is in `faults`."""

    def __init__(self, context: BrowserContext, url: str, name: str) -> None:
        self.name = name
        self.context = context
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self.faults.append(said.text) if _is_fault(said.text) else None)
        self.page.goto(url)

    def sign_in(self) -> Person:
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_role("button", name="Sign in").click()
        return self.connected()

    def connected(self, *, within: float = 10.0) -> Person:
        expect(self.page.locator("#connection")).to_have_attribute(
            "data-state", "connected", timeout=within * 1000
        )
        expect(self.page.locator("#connection-way")).to_contain_text(" · ")
        return self

    @property
    def transport(self) -> str:
        return self.page.locator("#connection-way").inner_text().split(" · ")[0].strip()

    @property
    def instance(self) -> str:
        return self.page.locator("#connection-way").inner_text().split(" · ")[1].strip()

    @property
    def online(self) -> Locator:
        return self.page.locator("#online li")

    @property
    def says(self) -> Locator:
        return self.page.locator("#messages .says")

    @property
    def typing(self) -> Locator:
        return self.page.locator("#typing")

    def open(self, chat: str) -> None:
        self.page.locator(f"#chats button[data-chat='{chat}']").click()

    def write(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).press_sequentially(text)

    def send(self, text: str = "") -> None:
        if text:
            self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def sees_online(self, *names: str) -> None:
        expect(self.online).to_have_text(sorted(names))

    def sees(self, text: str, *, times: int = 1) -> None:
        """So often, and no more."""
        expect(self.says.filter(has_text=text)).to_have_count(times)


def _is_fault(text: str) -> bool:
    # A connection that was cut is what some tests are about.
    return "Content Security Policy" in text or "Uncaught" in text or "Trusted" in text
