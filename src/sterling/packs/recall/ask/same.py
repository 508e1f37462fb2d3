"""Words that mean the same on a screen, one group a line: general English and its usual abbreviations.

Nothing here knows an application, a person or a screen.
"""

from __future__ import annotations

__all__ = ["SAME"]

_GROUPS = """
price cost
sum total
phone telephone tel mobile
email e-mail mail
mail message letter
database db
directory folder
repository repo
error failure exception
quantity qty count pieces
number no num
invoice bill
salary wage
customer client
meeting appointment
delete remove
begin start launch
end finish
maximum max
minimum min
average mean avg median
temperature temp
password passphrase
configuration config settings preferences
environment env
application app
department dept
reference ref
address addr
due deadline
author writer
sender from
recipient to
subject topic
vat tax
leave depart departure dep
arrive arrival arr
tall high height
heavy weigh weight
large big size
long length duration
wide width
deep depth
old age
far distance
fast speed
hot temperature
journey trip travel ride
pay paid payment
buy purchase bought order
send sent
create make build
job work
company firm
photo picture image
memory ram
disk storage
expire valid expiry
locate location place
spend expense cost
available avail free
people persons guests visitors
couple pair
repair fix mend
broken defective
cancel cancellation
owner proprietor
boss manager chief
colour color
flat apartment
car vehicle
flight plane
shop store
town city
street road
holiday vacation
film movie
doctor physician
lawyer attorney
teacher instructor
child kid
quick fast
buy order
call phone
fee charge
discount rebate reduction
delivery shipping shipment
deposit prepayment
rent lease
guarantee warranty
language tongue
"""

SAME: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split()) for line in _GROUPS.splitlines() if line.strip()
)
