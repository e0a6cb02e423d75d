"""An installation as its operator sees it: what the command line does to it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.infrastructure.database import (
    SessionFactory,
    TenantNotFound,
    create_session_factory,
)
from shared.infrastructure.encryption import DecryptionFailed
from shared.infrastructure.settings import DatabaseRole, Settings
from shared.kernel.clock import Clock, utc_now
from shared.kernel.secret import Secret
from tellwire.database import refuse_other_schema
from tellwire.resources import open_database, set_up_encryption
from tenancy.application.api_keys import CreateApiKey, ListApiKeys, RevokeApiKey
from tenancy.application.create_tenant import CreateTenant
from tenancy.application.ports import BeginTenancyWork
from tenancy.domain import Tenant
from tenancy.infrastructure.repositories import SQLAlchemyTenantDirectory
from tenancy.infrastructure.work import tenancy_work_in
from whatsapp.application.add_channel import AddChannel, VerifyChannel
from whatsapp.application.change_channel import (
    ChangeChannel,
    PauseChannel,
    ResumeChannel,
    RotateToken,
)
from whatsapp.application.ports import BeginWork
from whatsapp.application.requeue_quarantined import RequeueQuarantined
from whatsapp.domain.entities.meta_app import (
    APP_ID,
    InvalidMetaApp,
    MetaApp,
    MetaAppNotFound,
)
from whatsapp.infrastructure.cloud_api.client import CloudApiClient, create_http_session
from whatsapp.infrastructure.persistence.repositories.meta_app_repository import (
    SQLAlchemyMetaAppRepository,
    StoredApp,
)
from whatsapp.infrastructure.persistence.repositories.webhook_quarantine import (
    SQLAlchemyWebhookQuarantine,
)
from whatsapp.infrastructure.persistence.repositories.webhook_queue import SQLAlchemyWebhookQueue
from whatsapp.infrastructure.persistence.work import work_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The use cases of operators, on open connections."""

    settings: Settings
    sessions: SessionFactory
    engine: AsyncEngine
    process_engine: AsyncEngine
    begin: BeginWork
    begin_tenancy: BeginTenancyWork

    @property
    def create_tenant(self) -> CreateTenant:
        """Take in a tenant."""
        return CreateTenant(begin=self.begin_tenancy)

    @property
    def create_api_key(self) -> CreateApiKey:
        """Make an API key."""
        return CreateApiKey(begin=self.begin_tenancy)

    @property
    def list_api_keys(self) -> ListApiKeys:
        """Show a tenant's API keys."""
        return ListApiKeys(begin=self.begin_tenancy)

    @property
    def revoke_api_key(self) -> RevokeApiKey:
        """Take an API key back."""
        return RevokeApiKey(begin=self.begin_tenancy)

    @property
    def add_channel(self) -> AddChannel:
        """Take in a channel."""
        return AddChannel(begin=self.begin)

    @property
    def change_channel(self) -> ChangeChannel:
        """Change how a channel sends."""
        return ChangeChannel(begin=self.begin)

    @property
    def pause_channel(self) -> PauseChannel:
        """Stop sending on a channel."""
        return PauseChannel(begin=self.begin)

    @property
    def resume_channel(self) -> ResumeChannel:
        """Let a paused channel send again."""
        return ResumeChannel(begin=self.begin)

    @property
    def rotate_token(self) -> RotateToken:
        """Have a channel speak with another token."""
        return RotateToken(begin=self.begin)

    @asynccontextmanager
    async def verifying(self) -> AsyncGenerator[VerifyChannel]:
        """Verify channels, with a connection to Meta for the while."""
        async with create_http_session() as http:
            client = CloudApiClient(
                http,
                base_url=self.settings.graph_base_url,
                version=self.settings.graph_version,
            )
            yield VerifyChannel(begin=self.begin, directory=client)

    @property
    def now(self) -> Clock:
        """The clock of this installation."""
        return utc_now

    @property
    def apps(self) -> SQLAlchemyMetaAppRepository:
        """The Meta apps that post webhooks here."""
        return SQLAlchemyMetaAppRepository(self.sessions)

    @property
    def webhooks(self) -> SQLAlchemyWebhookQueue:
        """What came in and waits."""
        return SQLAlchemyWebhookQueue(self.process_engine)

    @property
    def quarantine(self) -> SQLAlchemyWebhookQuarantine:
        """What came in and was put aside."""
        return SQLAlchemyWebhookQuarantine(self.process_engine)

    @property
    def requeue_quarantined(self) -> RequeueQuarantined:
        """Have what was put aside processed anew."""
        return RequeueQuarantined(quarantine=self.quarantine)

    async def add_app(self, app_id: str, *, secret: Secret, verify_token: Secret) -> None:
        """Store a Meta app; the secret it had before stays valid beside the new one, if it opens.

        Raises InvalidMetaApp for an id at which no webhook could ever come in.
        """
        if APP_ID.fullmatch(app_id) is None:
            raise InvalidMetaApp("1 to 64 letters, digits, - and _ are needed", field="app_id")
        new = MetaApp(app_id=app_id, secret=secret, verify_token=verify_token)

        def change(known: StoredApp) -> MetaApp:
            if not isinstance(known, MetaApp):
                return new
            return replace(new, previous_secret=known.with_secret(secret).previous_secret)

        await self.apps.change_app(app_id, change)

    async def rotate_app_secret(self, app_id: str, secret: Secret | None) -> None:
        """Go over to `secret`, or end the overlap where it is None.

        Until the overlap ends the secret before it counts as well. Raises MetaAppNotFound, and
        DecryptionFailed where the stored secrets do not open: `add_app` sets them anew.
        """

        def change(known: StoredApp) -> MetaApp:
            if known is None:
                raise MetaAppNotFound
            if isinstance(known, DecryptionFailed):
                raise known
            return known.without_previous() if secret is None else known.with_secret(secret)

        await self.apps.change_app(app_id, change)

    async def refuse_unknown_tenant(self, tenant_id: UUID) -> None:
        """Raise TenantNotFound rather than let an empty list be taken for an answer."""
        async with self.begin_tenancy(tenant_id) as work:
            if await work.tenants.get() is None:
                raise TenantNotFound

    async def tenants(self) -> AsyncIterator[UUID]:
        """The ids of all tenants, as the role that may know them."""
        directory = SQLAlchemyTenantDirectory(self.process_engine)
        last: UUID | None = None
        while page := await directory.list_ids(after=last):
            for last in page:
                yield last

    async def named_tenants(self) -> AsyncIterator[Tenant]:
        """All tenants, the oldest first, each read under its own context."""
        async for tenant_id in self.tenants():
            async with self.begin_tenancy(tenant_id) as work:
                one = await work.tenants.get()
            # Nothing is given out in between: whoever stops listening would leave the context open.
            if one is not None:
                yield one


@asynccontextmanager
async def open_installation(settings: Settings) -> AsyncGenerator[Installation]:
    """Connect to the installation that `settings` lead to.

    Raises Misconfigured where its schema is not the one that this release was made for.
    """
    set_up_encryption(settings)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_database(settings, DatabaseRole.APP))
        await refuse_other_schema(app)
        process = await stack.enter_async_context(open_database(settings, DatabaseRole.PROCESS))
        sessions = create_session_factory(app)
        yield Installation(
            settings=settings,
            sessions=sessions,
            engine=app,
            process_engine=process,
            begin=work_in(sessions),
            begin_tenancy=tenancy_work_in(sessions),
        )
