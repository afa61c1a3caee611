// Package rtc is the MC146818 real-time clock with its CMOS memory. Start at RTC. The date is a configured start date
// plus guest time, so runs repeat. The day of the week follows from the date; written values of it are ignored once
// the clock runs. Source: Motorola MC146818A data sheet (1984).
package rtc
