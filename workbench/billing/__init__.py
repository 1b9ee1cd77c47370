"""Bills of providers: read from their usage and cost exports, and compared with the stored calls.

`reconcile(store, "bill.csv")` matches a bill row by row where both sides name the reply by the
provider's id, and by sums over (day, model) in any case.
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
