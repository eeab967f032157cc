"""The SQL of the CRM: what is read goes through the reader's views, what is changed through the writer's tables."""

from fleet_data.crm.repository.store import CrmRepository

__all__ = ["CrmRepository"]
