package fielderrors

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GoView wraps a value so that it is marshaled as JSON under the names of its Go fields, including empty ones.
// Kubernetes shows values of API types in its messages in this form, because its internal types have no JSON
// names. Types of other packages (quantities, times, label selectors) keep their own form.
func GoView(v any) any { return goView{reflect.ValueOf(v)} }

// apiPackage is the prefix of the packages whose types are shown under their Go names.
const apiPackage = "k8s.io/api/"

type goView struct{ v reflect.Value }

// MarshalJSON implements json.Marshaler.
func (g goView) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := writeGo(&b, g.v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeGo(b *bytes.Buffer, v reflect.Value) error {
	if !v.IsValid() {
		b.WriteString("null")
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return writeGo(b, v.Elem())
	case reflect.Struct:
		if strings.HasPrefix(v.Type().PkgPath(), apiPackage) {
			return writeStruct(b, v)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 && !v.IsNil() {
			return writeSlice(b, v)
		}
	}
	text, err := json.Marshal(v.Interface())
	b.Write(text)
	return err
}

func writeSlice(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeGo(b, v.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func writeStruct(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('{')
	first := true
	if err := writeFields(b, v, &first); err != nil {
		return err
	}
	b.WriteByte('}')
	return nil
}

// writeFields writes the fields of a struct, with those of embedded structs in place.
func writeFields(b *bytes.Buffer, v reflect.Value, first *bool) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			if err := writeEmbedded(b, v.Field(i), first); err != nil {
				return err
			}
			continue
		}
		comma(b, first)
		name, err := json.Marshal(f.Name)
		if err != nil {
			return err
		}
		b.Write(name)
		b.WriteByte(':')
		if err := writeGo(b, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// writeEmbedded writes the fields of an embedded struct, under their Go names for an API type and under their
// JSON names for object metadata.
func writeEmbedded(b *bytes.Buffer, v reflect.Value, first *bool) error {
	if strings.HasPrefix(v.Type().PkgPath(), apiPackage) {
		return writeFields(b, v, first)
	}
	if v.Type() == reflect.TypeFor[metav1.TypeMeta]() {
		return nil // empty in an internal type
	}
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return err
	}
	if inner := bytes.TrimSuffix(bytes.TrimPrefix(text, []byte("{")), []byte("}")); len(inner) > 0 {
		comma(b, first)
		b.Write(inner)
	}
	return nil
}

func comma(b *bytes.Buffer, first *bool) {
	if !*first {
		b.WriteByte(',')
	}
	*first = false
}
