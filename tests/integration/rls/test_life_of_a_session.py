"""Any order of transactions, savepoints, errors and contexts: a session shows one tenant's rows."""

import asyncio
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from shared.infrastructure.database import (
    DatabaseFailed,
    RLSManager,
    TenantContextConflict,
    TenantContextMissing,
    create_engine,
    create_session_factory,
)
from shared.infrastructure.database.rls import TENANT_SETTING
from whatsapp.infrastructure.persistence.models import ChannelModel

pytestmark = pytest.mark.postgres

TENANT = text(f"SELECT current_setting('{TENANT_SETTING}', true)")
ALL_CHANNELS = text("SELECT tenant_id FROM whatsapp_channels")


class OneTask:
    """An event loop in a thread of its own, where one single task does what it is told."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=asyncio.run, args=(self._work(),))
        self._thread.start()

    async def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            make, future = job
            try:
                future.set_result(await make())
            except BaseException as error:  # noqa: BLE001  # belongs to whoever asked
                future.set_exception(error)

    def __call__(self, make):
        future: Future = Future()
        self._jobs.put((make, future))
        return future.result(30)

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(30)


class Life(RuleBasedStateMachine):
    """Two sessions on one connection pool, of which one lives and dies at Hypothesis' will."""

    do: OneTask
    factory = None
    tenants: tuple = ()

    @initialize()
    def open(self) -> None:
        self.session, self.rls, self.tenant, self.savepoints = self.factory(), None, None, []
        self.served, self.broken = None, False

    # --- contexts --------------------------------------------------------------------------------

    @precondition(lambda self: self.rls is None)
    @rule(which=st.integers(0, 1))
    def enter(self, which: int) -> None:
        tenant = self.tenants[which]
        rls = RLSManager(self.session)
        allowed = self.served in {None, tenant} and not self.savepoints and not self.broken
        try:
            self.do(lambda: rls.set_context(tenant_id=tenant))
        except (TenantContextConflict, DatabaseFailed) as error:
            assert not allowed
            if isinstance(error, DatabaseFailed):
                self.served = tenant
            self.do(lambda: rls.__aexit__(ValueError, ValueError(), None))
            self._after_rollback()
            self._check_rolled_back()
        else:
            assert allowed
            self.rls, self.tenant, self.served = rls, tenant, tenant

    def _check_rolled_back(self) -> None:
        self.do(self.session.rollback)

    @precondition(lambda self: self.rls is not None)
    @rule(failed=st.booleans())
    def leave(self, *, failed: bool) -> None:
        rls, self.rls, self.tenant = self.rls, None, None
        error = ValueError() if failed else None
        try:
            self.do(lambda: rls.__aexit__((failed and ValueError) or None, error, None))
        except TenantContextConflict:
            assert self.savepoints
            assert not failed
            self._after_rollback()
        else:
            assert failed or not self.savepoints
        if failed:
            self._after_rollback()

    # --- transactions ----------------------------------------------------------------------------

    def _after_rollback(self) -> None:
        self.savepoints, self.broken = [], False

    @rule()
    def begin(self) -> None:
        self.do(self.session.connection)

    @precondition(lambda self: not self.broken)
    @rule()
    def commit(self) -> None:
        self.do(self.session.commit)
        self._after_rollback()

    @precondition(lambda self: self.broken)
    @rule()
    def commit_what_failed(self) -> None:
        with pytest.raises(DBAPIError):
            self.do(self.session.commit)
        self.do(self.session.rollback)
        self._after_rollback()

    @rule()
    def roll_back(self) -> None:
        self.do(self.session.rollback)
        self._after_rollback()

    @precondition(lambda self: not self.broken and len(self.savepoints) < 3)
    @rule()
    def set_savepoint(self) -> None:
        self.savepoints.append(self.do(self.session.begin_nested))

    @precondition(lambda self: self.savepoints)
    @rule()
    def roll_back_to_savepoint(self) -> None:
        self.do(self.savepoints.pop().rollback)
        self.broken = False

    @precondition(lambda self: self.savepoints and not self.broken)
    @rule()
    def release_savepoint(self) -> None:
        self.do(self.savepoints.pop().commit)

    @precondition(lambda self: not self.broken)
    @rule()
    def fail(self) -> None:
        with pytest.raises(DBAPIError):
            self.do(lambda: self.session.execute(text("SELECT 1 / 0")))
        self.broken = True

    @rule()
    def lose_the_connection(self) -> None:
        self.do(self.session.invalidate)
        self._after_rollback()

    @rule()
    def close(self) -> None:
        self.do(self.session.close)
        self._after_rollback()

    @precondition(lambda self: self.rls is None)
    @rule()
    def start_over(self) -> None:
        self.do(self.session.close)
        self.open()

    # --- what always holds -----------------------------------------------------------------------

    @invariant()
    def others_see_nothing(self) -> None:
        async def look() -> None:
            async with self.factory() as other:
                assert (await other.execute(ALL_CHANNELS)).all() == []
                assert not await other.scalar(TENANT)

        self.do(look)

    @rule()
    def look(self) -> None:
        if self.broken:
            return

        async def look() -> None:
            rows = {row.tenant_id for row in await self.session.execute(ALL_CHANNELS)}
            tenant = await self.session.scalar(TENANT)
            if self.rls is None:
                assert rows == set()
                assert not tenant
                with pytest.raises(TenantContextMissing):
                    await self.session.scalars(select(ChannelModel))
            else:
                assert rows == {self.tenant}
                assert tenant == str(self.tenant)
                found = await self.session.scalars(select(ChannelModel))
                assert {row.tenant_id for row in found} == {self.tenant}

        self.do(look)

    def teardown(self) -> None:
        with suppress(AttributeError):
            if self.rls is not None:
                self.do(lambda: self.rls.__aexit__(ValueError, ValueError(), None))
            self.do(self.session.close)


@pytest.mark.parametrize(
    ("lives", "steps"),
    [
        pytest.param(80, 30, id="long"),
        pytest.param(400, 5, id="short"),
        pytest.param(1920, 5, id="many", marks=pytest.mark.soak),
    ],
)
def test_a_session_shows_one_tenants_rows_whatever_happens_to_it(database, ana, bea, lives, steps):
    engine = create_engine(database.url("tellwire_app"), pool_size=2, max_overflow=0)
    task = OneTask()
    Life.do, Life.factory = task, staticmethod(create_session_factory(engine))
    Life.tenants = (ana.tenant_id, bea.tenant_id)
    try:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=lives,
                stateful_step_count=steps,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        task(engine.dispose)
        task.stop()
