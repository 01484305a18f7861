from typing import Any

class LazySettings:
    configured: bool
    def configure(self, **options: Any) -> None: ...

settings: LazySettings
