package kit

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
)

// tableConvertor prints objects with the kind's own Table.
type tableConvertor[T Object] struct {
	table *Table[T]
}

func newTableConvertor[T Object](d Definition[T], resource schema.GroupResource) rest.TableConvertor {
	if d.Table == nil {
		return rest.NewDefaultTableConvertor(resource)
	}
	return tableConvertor[T]{table: d.Table}
}

// ConvertToTable implements rest.TableConvertor for one object and for a list.
func (c tableConvertor[T]) ConvertToTable(_ context.Context, object runtime.Object, tableOptions runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{Rows: []metav1.TableRow{}} // an empty list is [], not null
	if o, ok := tableOptions.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		table.ColumnDefinitions = c.table.Columns
	}
	add := func(o runtime.Object) error {
		obj, ok := o.(T)
		if !ok {
			return fmt.Errorf("cannot print a %T", o)
		}
		cells, conditions := c.table.Row(obj)
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells, Conditions: conditions, Object: runtime.RawExtension{Object: o}})
		return nil
	}
	if meta.IsListType(object) {
		if err := meta.EachListItem(object, add); err != nil {
			return nil, err
		}
		if c.table.InList != nil {
			c.table.InList(table.Rows)
		}
	} else if err := add(object); err != nil {
		return nil, err
	}
	if m, err := meta.ListAccessor(object); err == nil {
		table.ResourceVersion = m.GetResourceVersion()
		table.Continue = m.GetContinue()
		table.RemainingItemCount = m.GetRemainingItemCount()
	} else if m, err := meta.CommonAccessor(object); err == nil {
		table.ResourceVersion = m.GetResourceVersion()
	}
	return table, nil
}
