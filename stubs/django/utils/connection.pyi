from django.db.backends.base.base import BaseDatabaseWrapper

class ConnectionDoesNotExist(Exception): ...

class ConnectionProxy(BaseDatabaseWrapper):
    _alias: str
