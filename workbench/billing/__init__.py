"""Billing: bills read from providers' usage and cost exports, and compared with stored calls.

`reconcile(store, "bill.csv")` compares sums by day and model. If the bill lists single requests, it
also matches them with calls by the provider's ids.
"""

from workbench.billing.bill import MEASURES, Bill, BillRow
from workbench.billing.formats import FORMATS, read_bill
from workbench.billing.reconciliation import Reconciliation, reconcile

__all__ = [
    "FORMATS",
    "MEASURES",
    "Bill",
    "BillRow",
    "Reconciliation",
    "read_bill",
    "reconcile",
]
